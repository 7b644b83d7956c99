// SPDX-License-Identifier: Apache-2.0
// References to bits of ap_fixed, to read or to write. They hold and move bits as those of ap_int do, but
// have no arithmetic: in it, a range is an unsigned long long and a bit a bool.
#ifndef E2HLS_AP_FIXED_REFERENCES_H
#define E2HLS_AP_FIXED_REFERENCES_H

#include "ap_fixed_convert.h"

// Bits hi..lo of the number under the point.
template <int kWidth, bool kSigned>
struct af_range_ref : ap_range_ref<kWidth, kSigned> {
  using Base = ap_range_ref<kWidth, kSigned>;
  using Bits = typename Base::Bits;
  using Base::Base;
  af_range_ref(const af_range_ref&) = default;

  E2HLS_INLINE char to_char() const { return this->get().to_char(); }
  E2HLS_INLINE long to_long() const { return this->get().to_long(); }
  E2HLS_INLINE unsigned long to_ulong() const { return this->get().to_ulong(); }
  E2HLS_INLINE ap_uint<kWidth> to_ap_int_base() const { return this->get(); }
  template <int kFrom>
  E2HLS_INLINE void set(const ap_uint<kFrom>& x) const {
    *this = x;
  }

  template <e2hls::Any T>
  E2HLS_INLINE const af_range_ref& operator=(const T& x) const {
    Base::operator=(x);
    return *this;
  }
  E2HLS_INLINE const af_range_ref& operator=(const af_range_ref& x) const { return *this = x.get(); }
  // The bits of a fixed-point number, wherever its point is.
  template <typename T>
    requires e2hls::Fixed<T>::kHasPoint
  E2HLS_INLINE const af_range_ref& operator=(const T& x) const {
    return *this = x.V;
  }
};

template <int kWidth, bool kSigned>
struct af_bit_ref : ap_bit_ref<kWidth, kSigned> {
  using Base = ap_bit_ref<kWidth, kSigned>;
  using Base::Base;
  af_bit_ref(const af_bit_ref&) = default;

  template <typename T>
  E2HLS_INLINE const af_bit_ref& operator=(const T& x) const {
    Base::operator=(x);
    return *this;
  }
  E2HLS_INLINE const af_bit_ref& operator=(const af_bit_ref& x) const { return *this = x.to_bool(); }
};

namespace e2hls {

template <int kWidthOf, bool kSignedOf>
struct Operand<af_range_ref<kWidthOf, kSignedOf>> : Operand<ap_range_ref<kWidthOf, kSignedOf>> {
  static constexpr Kind kKind = Kind::kFixedRange;
};
template <int kWidthOf, bool kSignedOf>
struct Operand<af_bit_ref<kWidthOf, kSignedOf>> : Operand<ap_bit_ref<kWidthOf, kSignedOf>> {
  static constexpr Kind kKind = Kind::kFixedBit;
};

template <typename A, typename B>
concept FixedBitsPair = (FixedBits<A> && (Number<B> || Selected<B> || FixedBits<B> || Fixed<B>::kHasPoint)) ||
                        (FixedBits<B> && (Number<A> || Selected<A> || Fixed<A>::kHasPoint));
template <typename A, typename B>
concept FixedRangeOrder = (kind_of<A> == Kind::kFixedRange && (Native<B> || Concat<B>)) ||
                          (kind_of<B> == Kind::kFixedRange && Native<A>);

// What is compared: all the bits of a range. A concatenation decays here.
template <typename T>
E2HLS_INLINE decltype(auto) compared(const T& x) {
  if constexpr (kind_of<T> == Kind::kFixedRange) {
    return x.get();
  } else if constexpr (Concat<T>) {
    return static_cast<unsigned long long>(x);
  } else {
    return decayed(x);
  }
}

}  // namespace e2hls

#define E2HLS_DECAYED(sign)                                 \
  template <typename A, typename B>                         \
    requires e2hls::FixedBitsPair<A, B>                     \
  E2HLS_INLINE auto operator sign(const A& a, const B& b) { \
    return e2hls::decayed(a) sign e2hls::decayed(b);        \
  }
E2HLS_DECAYED(+)
E2HLS_DECAYED(-)
E2HLS_DECAYED(*)
E2HLS_DECAYED(/)
E2HLS_DECAYED(%)
E2HLS_DECAYED(&)
E2HLS_DECAYED(|)
E2HLS_DECAYED(^)
E2HLS_DECAYED(<<)
E2HLS_DECAYED(>>)
#undef E2HLS_DECAYED

#define E2HLS_COMPARISON(sign)                                           \
  template <typename A, typename B>                                      \
    requires(e2hls::FixedBitsPair<A, B> || e2hls::FixedRangeOrder<A, B>) \
  E2HLS_INLINE bool operator sign(const A& a, const B& b) {              \
    return e2hls::compared(a) sign e2hls::compared(b);                   \
  }
E2HLS_COMPARISON(==)
E2HLS_COMPARISON(!=)
E2HLS_COMPARISON(<)
E2HLS_COMPARISON(<=)
E2HLS_COMPARISON(>)
E2HLS_COMPARISON(>=)
#undef E2HLS_COMPARISON

#endif  // E2HLS_AP_FIXED_REFERENCES_H
