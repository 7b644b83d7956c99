// SPDX-License-Identifier: Apache-2.0
// Arbitrary-precision integers with the vendor's names, widths and wrap-around, built on clang's _BitInt.
//
// A sum, difference or product is as wide as its exact value needs; an assignment keeps the low bits.
#ifndef E2HLS_AP_INT_H
#define E2HLS_AP_INT_H

#include "ap_int_references.h"

template <int kWidth, bool kSigned>
struct ap_int_base {
  static_assert(kWidth > 0, "ap_int: the width must be positive");
  static constexpr int width = kWidth;
  static constexpr bool sign_flag = kSigned;
  using Value = e2hls::Value<kWidth, kSigned>;
  using Bits = unsigned _BitInt(kWidth);
  using Native = std::conditional_t<kSigned, long long, unsigned long long>;

  typename e2hls::Raw<kWidth, kSigned>::Stored V;

  ap_int_base() = default;
  template <e2hls::Any T>
  E2HLS_INLINE ap_int_base(const T& x) : V(e2hls::cast<decltype(V)>(x)) {}

  E2HLS_INLINE static ap_int_base from(Bits bits) {
    ap_int_base x;
    x.V = static_cast<decltype(x.V)>(bits);
    return x;
  }
  E2HLS_INLINE Value get() const {
    if constexpr (kSigned && kWidth == 1) {
      return static_cast<Value>(-static_cast<Value>(V));
    } else {
      return V;
    }
  }
  E2HLS_INLINE Bits bits() const { return static_cast<Bits>(V); }
  E2HLS_INLINE operator Native() const { return static_cast<Native>(get()); }

  E2HLS_INLINE bool to_bool() const { return bits() != 0; }
  E2HLS_INLINE char to_char() const { return static_cast<char>(get()); }
  E2HLS_INLINE short to_short() const { return static_cast<short>(get()); }
  E2HLS_INLINE int to_int() const { return static_cast<int>(get()); }
  E2HLS_INLINE unsigned to_uint() const { return static_cast<unsigned>(get()); }
  E2HLS_INLINE long to_long() const { return static_cast<long>(get()); }
  E2HLS_INLINE unsigned long to_ulong() const { return static_cast<unsigned long>(get()); }
  E2HLS_INLINE long long to_int64() const { return static_cast<long long>(get()); }
  E2HLS_INLINE unsigned long long to_uint64() const { return static_cast<unsigned long long>(get()); }
  E2HLS_INLINE int length() const { return kWidth; }

  E2HLS_INLINE bool is_zero() const { return bits() == 0; }
  E2HLS_INLINE bool iszero() const { return bits() == 0; }
  E2HLS_INLINE bool sign() const { return kSigned && get_bit(kWidth - 1); }
  E2HLS_INLINE bool get_bit(int index) const {
    return (bits() >> e2hls::checked_index(index, kWidth) & 1) != 0;
  }
  E2HLS_INLINE bool test(int index) const { return get_bit(index); }
  E2HLS_INLINE void set_bit(int index, bool on) { put_bit(e2hls::checked_index(index, kWidth), on); }
  E2HLS_INLINE void put(Bits bits) { V = static_cast<decltype(V)>(bits); }
  E2HLS_INLINE void put_bit(int index, bool on) {
    const Bits one = static_cast<Bits>(static_cast<Bits>(1) << index);
    V = static_cast<decltype(V)>(on ? bits() | one : bits() & static_cast<Bits>(~one));
  }
  E2HLS_INLINE void set(int index) { set_bit(index, true); }
  E2HLS_INLINE void clear(int index) { set_bit(index, false); }
  E2HLS_INLINE void invert(int index) { set_bit(index, !get_bit(index)); }
  E2HLS_INLINE void b_not() { V = static_cast<decltype(V)>(~bits()); }
  E2HLS_INLINE bool and_reduce() const { return bits() == static_cast<Bits>(~static_cast<Bits>(0)); }
  E2HLS_INLINE bool or_reduce() const { return bits() != 0; }
  E2HLS_INLINE bool nand_reduce() const { return !and_reduce(); }
  E2HLS_INLINE bool nor_reduce() const { return !or_reduce(); }
  E2HLS_INLINE bool xor_reduce() const {
    Bits x = bits();
    for (int by = 1; by < kWidth; by *= 2) {
      #pragma HLS UNROLL
      x ^= x >> by;
    }
    return (x & 1) != 0;
  }
  E2HLS_INLINE bool xnor_reduce() const { return !xor_reduce(); }

  E2HLS_INLINE ap_range_ref<kWidth, kSigned> range(int hi, int lo) { return {*this, hi, lo}; }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> range(int hi, int lo) const {
    return {const_cast<ap_int_base&>(*this), hi, lo};
  }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> range() { return range(kWidth - 1, 0); }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> range() const { return range(kWidth - 1, 0); }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> operator()(int hi, int lo) { return range(hi, lo); }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> operator()(int hi, int lo) const { return range(hi, lo); }
  // Templates, so that an index is never ambiguous with the built-in [] on the converted number.
  template <e2hls::Any T>
  E2HLS_INLINE ap_bit_ref<kWidth, kSigned> operator[](const T& index) {
    return {*this, e2hls::cast<int>(index)};
  }
  template <e2hls::Any T>
  E2HLS_INLINE bool operator[](const T& index) const {
    return get_bit(e2hls::cast<int>(index));
  }
  template <e2hls::Any T>
  E2HLS_INLINE ap_bit_ref<kWidth, kSigned> bit(const T& index) {
    return {*this, e2hls::cast<int>(index)};
  }
  template <e2hls::Any T>
  E2HLS_INLINE bool bit(const T& index) const {
    return get_bit(e2hls::cast<int>(index));
  }
  template <e2hls::Number T>
  E2HLS_INLINE ap_concat_ref<ap_int_base, T> concat(const T& low) const {
    return {*this, low};
  }

  E2HLS_INLINE ap_int_base operator+() const { return *this; }
  E2HLS_INLINE ap_int<e2hls::max(kWidth, kSigned ? 2 : 1) + 1> operator-() const {
    using Wide = ap_int<e2hls::max(kWidth, kSigned ? 2 : 1) + 1>;
    return Wide::from(static_cast<typename Wide::Bits>(-static_cast<typename Wide::Value>(get())));
  }
  E2HLS_INLINE ap_int_base operator~() const { return from(static_cast<Bits>(~bits())); }
  E2HLS_INLINE bool operator!() const { return bits() == 0; }
  E2HLS_INLINE ap_int_base& operator++() { return *this += true; }
  E2HLS_INLINE ap_int_base& operator--() { return *this -= true; }
  E2HLS_INLINE ap_int_base operator++(int) {
    const ap_int_base old = *this;
    *this += true;
    return old;
  }
  E2HLS_INLINE ap_int_base operator--(int) {
    const ap_int_base old = *this;
    *this -= true;
    return old;
  }

// A temporary range decays to a number of C++, one with a name does not.
#define E2HLS_ASSIGN(sign)                                                                     \
  template <typename T>                                                                        \
    requires e2hls::Any<std::remove_cvref_t<T>>                                                \
  E2HLS_INLINE ap_int_base& operator sign## = (T && x) {                                       \
    using Of = std::remove_cvref_t<T>;                                                         \
    if constexpr (e2hls::Concat<Of> || (e2hls::Range<Of> && !std::is_lvalue_reference_v<T>)) { \
      return *this = ap_int_base(*this sign static_cast<unsigned long long>(x));               \
    } else if constexpr (e2hls::FixedBits<Of>) {                                               \
      return *this = ap_int_base(*this sign e2hls::decayed(x));                                \
    } else {                                                                                   \
      return *this = ap_int_base(*this sign e2hls::number_of(x));                              \
    }                                                                                          \
  }
  E2HLS_ASSIGN(+)
  E2HLS_ASSIGN(-)
  E2HLS_ASSIGN(*)
  E2HLS_ASSIGN(/)
  E2HLS_ASSIGN(%)
  E2HLS_ASSIGN(&)
  E2HLS_ASSIGN(|)
  E2HLS_ASSIGN(^)
  E2HLS_ASSIGN(<<)
  E2HLS_ASSIGN(>>)
#undef E2HLS_ASSIGN
};

#include "ap_int_operators.h"

#endif  // E2HLS_AP_INT_H
