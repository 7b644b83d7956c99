// SPDX-License-Identifier: Apache-2.0
// References to bits of ap_int, to read or to write: a range, one bit, and several of them in a row.
//
// Each is more than two words large, so that a function returns it in memory: in registers its references
// would become numbers.
#ifndef E2HLS_AP_INT_REFERENCES_H
#define E2HLS_AP_INT_REFERENCES_H

#include "ap_int_operand.h"

// Bits hi..lo of a number, in reverse order where hi is below lo; as wide as the number, since hi and lo may
// be variables.
template <int kWidth, bool kSigned>
struct ap_range_ref {
  using Bits = unsigned _BitInt(kWidth);

  ap_int_base<kWidth, kSigned>& number;
  long hi;
  long lo;

  E2HLS_INLINE ap_range_ref(ap_int_base<kWidth, kSigned>& of, int high, int low)
      : number(of), hi(e2hls::checked_index(high, kWidth)), lo(e2hls::checked_index(low, kWidth)) {}
  ap_range_ref(const ap_range_ref&) = default;

  // Chosen without a branch, so that the passes fold what is known of the direction at once.
  E2HLS_INLINE bool backward() const { return hi < lo; }
  E2HLS_INLINE Bits mask() const {
    return static_cast<Bits>(~static_cast<Bits>(0)) >> (kWidth - 1 - (length() - 1));
  }
  E2HLS_INLINE ap_uint<kWidth> get() const {
    const Bits ordered =
        e2hls::choose<Bits>(backward(), e2hls::reversed<kWidth>(number.bits()), number.bits());
    return ap_uint<kWidth>::from(ordered >> e2hls::choose<long>(backward(), kWidth - 1 - lo, lo) & mask());
  }
  E2HLS_INLINE void put(Bits bits) const {
    const Bits field = static_cast<Bits>(mask() << e2hls::choose<long>(backward(), hi, lo));
    const Bits turned = static_cast<Bits>(e2hls::reversed<kWidth>(bits) >> (kWidth - 1 - lo));
    const Bits fresh = e2hls::choose<Bits>(backward(), turned, static_cast<Bits>(bits << lo)) & field;
    number = ap_uint<kWidth>::from(static_cast<Bits>((number.bits() & static_cast<Bits>(~field)) | fresh));
  }
  E2HLS_INLINE operator ap_uint<kWidth>() const { return get(); }
  E2HLS_INLINE operator unsigned long long() const { return get().to_uint64(); }
  E2HLS_INLINE int to_int() const { return get().to_int(); }
  E2HLS_INLINE unsigned to_uint() const { return get().to_uint(); }
  E2HLS_INLINE long long to_int64() const { return get().to_int64(); }
  E2HLS_INLINE unsigned long long to_uint64() const { return get().to_uint64(); }
  E2HLS_INLINE int length() const {
    return static_cast<int>(e2hls::choose<long>(backward(), lo - hi, hi - lo) + 1);
  }

  template <e2hls::Any T>
  E2HLS_INLINE const ap_range_ref& operator=(const T& x) const {
    if constexpr (e2hls::Concat<T>) {  // which decays here
      put(static_cast<Bits>(static_cast<unsigned long long>(x)));
    } else {
      put(e2hls::cast<Bits>(x));
    }
    return *this;
  }
  E2HLS_INLINE const ap_range_ref& operator=(const ap_range_ref& x) const { return *this = x.get(); }
  // The integer in a fixed-point number.
  template <typename T>
    requires(!e2hls::Any<T> && requires(const T& x) { x.to_ap_int_base(); })
  E2HLS_INLINE const ap_range_ref& operator=(const T& x) const {
    put(e2hls::cast<Bits>(x.to_ap_int_base()));
    return *this;
  }
};

// One bit of a number.
template <int kWidth, bool kSigned>
struct ap_bit_ref {
  ap_int_base<kWidth, kSigned>& number;
  int index;
  long last = kWidth - 1;

  E2HLS_INLINE ap_bit_ref(ap_int_base<kWidth, kSigned>& of, int at)
      : number(of), index(e2hls::checked_index(at, kWidth)) {}
  ap_bit_ref(const ap_bit_ref&) = default;

  E2HLS_INLINE bool get() const { return (number.bits() >> index & 1) != 0; }
  E2HLS_INLINE void put(unsigned _BitInt(1) bit) const { number.put_bit(index, bit != 0); }
  E2HLS_INLINE operator bool() const { return get(); }
  E2HLS_INLINE bool to_bool() const { return get(); }
  E2HLS_INLINE bool operator~() const { return !get(); }
  E2HLS_INLINE int length() const { return 1; }
  template <typename T>
  E2HLS_INLINE const ap_bit_ref& operator=(const T& x) const {
    if constexpr (e2hls::Number<T> || e2hls::Range<T> || e2hls::FixedBits<T>) {
      number.put_bit(index, e2hls::Operand<T>::value(x) != 0);
    } else {
      number.put_bit(index, x != 0);
    }
    return *this;
  }
  E2HLS_INLINE const ap_bit_ref& operator=(const ap_bit_ref& x) const { return *this = x.to_bool(); }
};

namespace e2hls {

template <int kWidthOf, bool kSignedOf>
struct Operand<ap_range_ref<kWidthOf, kSignedOf>> {
  static constexpr Kind kKind = Kind::kRange;
  static constexpr int kWidth = kWidthOf;
  static constexpr bool kSigned = false;
  static constexpr bool kOwnSigned = kSignedOf;
  E2HLS_INLINE static Value<kWidth, false> value(const ap_range_ref<kWidth, kSignedOf>& x) {
    return x.get().get();
  }
};
template <int kWidthOf, bool kSignedOf>
struct Operand<ap_bit_ref<kWidthOf, kSignedOf>> {
  static constexpr Kind kKind = Kind::kBit;
  static constexpr int kWidth = 1;
  static constexpr bool kSigned = false;
  static constexpr bool kOwnSigned = false;
  E2HLS_INLINE static Value<1, false> value(const ap_bit_ref<kWidthOf, kSignedOf>& x) {
    return static_cast<Value<1, false>>(x.to_bool());
  }
};

// How a concatenation holds its parts: numbers where they lie, references by value.
template <typename T>
struct Part {
  using Type = const T;
  E2HLS_INLINE static const T& of(const T& x) { return x; }
};
template <int kWidth, bool kSigned>
struct Part<ap_int_base<kWidth, kSigned>> {
  using Type = ap_int_base<kWidth, kSigned>&;
  E2HLS_INLINE static Type of(const ap_int_base<kWidth, kSigned>& x) { return const_cast<Type>(x); }
};

}  // namespace e2hls

// (high, low): the bits of both, one after the other. As wide as the parts' types, of which ranges may fill
// only a part.
template <typename High, typename Low>
struct ap_concat_ref {
  static constexpr int kHigh = e2hls::Operand<High>::kWidth;
  static constexpr int kLow = e2hls::Operand<Low>::kWidth;
  static constexpr int kWidth = kHigh + kLow;
  using Bits = unsigned _BitInt(kWidth);

  typename e2hls::Part<High>::Type high;
  typename e2hls::Part<Low>::Type low;
  long parts = 2;

  E2HLS_INLINE ap_concat_ref(const High& first, const Low& second)
      : high(e2hls::Part<High>::of(first)), low(e2hls::Part<Low>::of(second)) {}
  ap_concat_ref(const ap_concat_ref&) = default;

  E2HLS_INLINE int length() const { return high.length() + low.length(); }
  E2HLS_INLINE ap_uint<kWidth> get() const {
    const Bits upper = e2hls::cast<unsigned _BitInt(kHigh)>(high);
    const Bits lower = e2hls::cast<unsigned _BitInt(kLow)>(low);
    return ap_uint<kWidth>::from(static_cast<Bits>(upper << low.length()) | lower);
  }
  E2HLS_INLINE void put(Bits bits) const {
    high.put(static_cast<unsigned _BitInt(kHigh)>(bits >> low.length()));
    low.put(static_cast<unsigned _BitInt(kLow)>(bits));
  }
  E2HLS_INLINE operator ap_uint<kWidth>() const { return get(); }
  E2HLS_INLINE operator unsigned long long() const { return get().to_uint64(); }

  template <e2hls::Any T>
  E2HLS_INLINE const ap_concat_ref& operator=(const T& x) const {
    put(e2hls::cast<Bits>(x));
    return *this;
  }
  E2HLS_INLINE const ap_concat_ref& operator=(const ap_concat_ref& x) const { return *this = x.get(); }
};

namespace e2hls {

template <typename High, typename Low>
struct Operand<ap_concat_ref<High, Low>> {
  static constexpr Kind kKind = Kind::kConcat;
  static constexpr int kWidth = ap_concat_ref<High, Low>::kWidth;
  static constexpr bool kSigned = false;
  static constexpr bool kOwnSigned = false;
  E2HLS_INLINE static Value<kWidth, false> value(const ap_concat_ref<High, Low>& x) { return x.get().get(); }
};

// The number that a reference stands for.
template <typename T>
E2HLS_INLINE auto number_of(const T& x) {
  return ap_int_base<Operand<T>::kWidth, Operand<T>::kSigned>(x);
}

}  // namespace e2hls

#endif  // E2HLS_AP_INT_REFERENCES_H
