// SPDX-License-Identifier: Apache-2.0
// Fixed-point numbers with the vendor's names: an ap_int with a binary point, rounding and overflow modes.
//
// A sum, difference or product is exact; an assignment drops the bits that do not fit, as its modes say.
#ifndef E2HLS_AP_FIXED_H
#define E2HLS_AP_FIXED_H

#include "ap_fixed_references.h"

template <int kWidth, int kInteger, bool kSigned, ap_q_mode kRounding = AP_TRN, ap_o_mode kOverflow = AP_WRAP,
          int kSaturated = 0>
struct ap_fixed_base {
  static_assert(kWidth > 0, "ap_fixed: the width must be positive");
  static_assert(kSaturated == 0 && (kOverflow != AP_WRAP_SM || !kSigned),
                "ap_fixed: AP_WRAP with saturated bits and AP_WRAP_SM are not supported");
  static constexpr int width = kWidth;
  static constexpr int iwidth = kInteger;
  static constexpr int kFraction = kWidth - kInteger;
  static constexpr bool sign_flag = kSigned;
  static constexpr ap_q_mode qmode = kRounding;
  static constexpr ap_o_mode omode = kOverflow;
  using Raw = ap_int_base<kWidth, kSigned>;
  using Range = af_range_ref<kWidth, kSigned>;
  using Integer = ap_int_base<e2hls::max(kInteger, 1), kSigned>;

  Raw V;

  ap_fixed_base() = default;
  template <e2hls::FixedOperand T>
  E2HLS_INLINE ap_fixed_base(const T& x) {
    using Of = e2hls::Fixed<T>;
    V = e2hls::fixed_cast<kWidth, kFraction, kSigned, kRounding, kOverflow, Of::kWidth, Of::kFraction,
                          Of::kSigned>(Of::value(x));
  }
  E2HLS_INLINE ap_fixed_base(double x) {
    V = e2hls::fixed_of_double<kWidth, kFraction, kSigned, kRounding, kOverflow>(x);
  }
  E2HLS_INLINE ap_fixed_base(float x) : ap_fixed_base(static_cast<double>(x)) {}

  E2HLS_INLINE static ap_fixed_base from(typename Raw::Bits bits) {
    ap_fixed_base x;
    x.V = Raw::from(bits);
    return x;
  }

  // The integer in it, rounded towards zero, in as many bits as it has in front of its point. With none
  // there, the vendor has -1 for whatever is negative.
  E2HLS_INLINE Integer to_ap_int_base() const {
    if constexpr (kInteger <= 0) {
      return Integer(V.sign() ? -1 : 0);
    } else {
      return Integer(e2hls::integer_part<kWidth, kFraction, kSigned>(V.get()));
    }
  }
  template <int kTo, bool kToSigned>
  E2HLS_INLINE operator ap_int_base<kTo, kToSigned>() const {
    return ap_int_base<kTo, kToSigned>(to_ap_int_base());
  }
  template <typename T>
    requires(std::is_integral_v<T> && !std::is_same_v<T, bool>)
  E2HLS_INLINE operator T() const {
    return e2hls::cast<T>(to_ap_int_base());
  }
  E2HLS_INLINE operator bool() const { return V.to_bool(); }
  E2HLS_INLINE bool to_bool() const { return V.to_bool(); }
  E2HLS_INLINE char to_char() const { return to_ap_int_base().to_char(); }
  E2HLS_INLINE int to_int() const { return to_ap_int_base().to_int(); }
  E2HLS_INLINE unsigned to_uint() const { return to_ap_int_base().to_uint(); }
  E2HLS_INLINE long to_long() const { return to_ap_int_base().to_long(); }
  E2HLS_INLINE unsigned long to_ulong() const { return to_ap_int_base().to_ulong(); }
  E2HLS_INLINE long long to_int64() const { return to_ap_int_base().to_int64(); }
  E2HLS_INLINE unsigned long long to_uint64() const { return to_ap_int_base().to_uint64(); }
#ifndef __SYNTHESIS__
  double to_double() const {
    return std::ldexp(static_cast<double>(static_cast<long double>(V.get())), -kFraction);
  }
  float to_float() const { return static_cast<float>(to_double()); }
  operator double() const { return to_double(); }
  operator float() const { return to_float(); }
#endif

  E2HLS_INLINE int length() const { return kWidth; }
  E2HLS_INLINE int wl() const { return kWidth; }
  E2HLS_INLINE int iwl() const { return kInteger; }
  E2HLS_INLINE bool is_zero() const { return V.is_zero(); }
  E2HLS_INLINE bool is_neg() const { return V.sign(); }
  E2HLS_INLINE Range range(int hi, int lo) { return {V, hi, lo}; }
  E2HLS_INLINE Range range(int hi, int lo) const { return {const_cast<Raw&>(V), hi, lo}; }
  E2HLS_INLINE Range range() { return range(kWidth - 1, 0); }
  E2HLS_INLINE Range range() const { return range(kWidth - 1, 0); }
  E2HLS_INLINE Range operator()(int hi, int lo) { return range(hi, lo); }
  E2HLS_INLINE Range operator()(int hi, int lo) const { return range(hi, lo); }
  template <e2hls::Any T>
  E2HLS_INLINE af_bit_ref<kWidth, kSigned> operator[](const T& index) {
    return {V, e2hls::cast<int>(index)};
  }
  template <e2hls::Any T>
  E2HLS_INLINE bool operator[](const T& index) const {
    return V[index];
  }

  E2HLS_INLINE ap_fixed_base operator+() const { return *this; }
  E2HLS_INLINE ap_fixed_base<kWidth + 1, kInteger + 1, true> operator-() const {
    using To = ap_fixed_base<kWidth + 1, kInteger + 1, true>;
    return To::from(static_cast<typename To::Raw::Bits>(-static_cast<typename To::Raw::Value>(V.get())));
  }
  E2HLS_INLINE ap_fixed_base<kWidth, kInteger, kSigned> operator~() const {
    return ap_fixed_base<kWidth, kInteger, kSigned>::from((~V).bits());
  }
  E2HLS_INLINE bool operator!() const { return V.is_zero(); }
  E2HLS_INLINE ap_fixed_base& operator++() { return *this += ap_fixed_base<kFraction + 1, 1, false>(1); }
  E2HLS_INLINE ap_fixed_base& operator--() { return *this -= ap_fixed_base<kFraction + 1, 1, false>(1); }
  E2HLS_INLINE ap_fixed_base operator++(int) {
    const ap_fixed_base old = *this;
    ++*this;
    return old;
  }
  E2HLS_INLINE ap_fixed_base operator--(int) {
    const ap_fixed_base old = *this;
    --*this;
    return old;
  }

// A shift moves bits within the number: it neither rounds nor saturates.
#define E2HLS_SHIFT(sign)                                           \
  template <e2hls::Any T>                                           \
  E2HLS_INLINE ap_fixed_base operator sign(const T& amount) const { \
    ap_fixed_base x;                                                \
    x.V = V sign amount;                                            \
    return x;                                                       \
  }                                                                 \
  template <e2hls::Any T>                                           \
  E2HLS_INLINE ap_fixed_base& operator sign## = (const T& amount) { \
    return *this = *this sign amount;                               \
  }
  E2HLS_SHIFT(<<)
  E2HLS_SHIFT(>>)
#undef E2HLS_SHIFT

#define E2HLS_ASSIGN(sign)                                     \
  template <e2hls::FixedOperand T>                             \
  E2HLS_INLINE ap_fixed_base& operator sign## = (const T& x) { \
    return *this = ap_fixed_base(*this sign x);                \
  }
  E2HLS_ASSIGN(+)
  E2HLS_ASSIGN(-)
  E2HLS_ASSIGN(*)
  E2HLS_ASSIGN(/)
  E2HLS_ASSIGN(&)
  E2HLS_ASSIGN(|)
  E2HLS_ASSIGN(^)
#undef E2HLS_ASSIGN
};

template <int kWidth, int kInteger, ap_q_mode kRounding = AP_TRN, ap_o_mode kOverflow = AP_WRAP,
          int kSaturated = 0>
using ap_fixed = ap_fixed_base<kWidth, kInteger, true, kRounding, kOverflow, kSaturated>;
template <int kWidth, int kInteger, ap_q_mode kRounding = AP_TRN, ap_o_mode kOverflow = AP_WRAP,
          int kSaturated = 0>
using ap_ufixed = ap_fixed_base<kWidth, kInteger, false, kRounding, kOverflow, kSaturated>;

namespace e2hls {

template <int kWidthOf, int kInteger, bool kSignedOf, ap_q_mode kRounding, ap_o_mode kOverflow,
          int kSaturated>
struct Fixed<ap_fixed_base<kWidthOf, kInteger, kSignedOf, kRounding, kOverflow, kSaturated>> {
  static constexpr bool kIs = true;
  static constexpr bool kHasPoint = true;
  static constexpr int kWidth = kWidthOf;
  static constexpr int kFraction = kWidthOf - kInteger;
  static constexpr bool kSigned = kSignedOf;
  E2HLS_INLINE static Value<kWidth, kSigned> value(
      const ap_fixed_base<kWidthOf, kInteger, kSignedOf, kRounding, kOverflow, kSaturated>& x) {
    return x.V.get();
  }
};

// Types of results, as the vendor states them.
template <typename A, typename B>
struct FixedResult {
  static constexpr int kA = Fixed<A>::kWidth;
  static constexpr int kB = Fixed<B>::kWidth;
  static constexpr int kFa = Fixed<A>::kFraction;
  static constexpr int kFb = Fixed<B>::kFraction;
  static constexpr bool kSa = Fixed<A>::kSigned;
  static constexpr bool kSb = Fixed<B>::kSigned;
  static constexpr bool kSigned = kSa || kSb;
  static constexpr int kFraction = max(kFa, kFb);
  static constexpr int kInteger = max(kA - kFa + (kSb && !kSa), kB - kFb + (kSa && !kSb));
  using Logic = ap_fixed_base<kInteger + kFraction, kInteger, kSigned>;
  using Sum = ap_fixed_base<kInteger + 1 + kFraction, kInteger + 1, kSigned>;
  using Difference = ap_fixed_base<kInteger + 1 + kFraction, kInteger + 1, true>;
  using Product = ap_fixed_base<kA + kB, kA - kFa + kB - kFb, kSigned>;
  using Quotient = ap_fixed_base<kSb + kA + max(kFb, 0), kSb + kA - kFa + kFb, kSigned>;
  // Holds the dividend, with as many bits behind it as the quotient needs, and the least of them divided by
  // -1.
  using Divided = Value<max(kA + max(kFb, 0), kB) + 2, kSigned>;
  // What the vendor divides in: there, the least number divided by -1 is itself.
  using Kept = ap_int_base<max(kA + max(kFb, 0) + (kSb && !kSa), kB + (kSa && !kSb)), kSigned>;
  using Multiplied = Value<kA + kB, kSigned>;
};

// An operand with so many bits behind its point.
template <typename To, int kFraction, typename T>
E2HLS_INLINE To aligned(const T& x) {
  return static_cast<To>(static_cast<To>(Fixed<T>::value(x)) << (kFraction - Fixed<T>::kFraction));
}

}  // namespace e2hls

#define E2HLS_FIXED(sign, kind)                                                                            \
  template <typename A, typename B>                                                                        \
    requires e2hls::FixedPair<A, B>                                                                        \
  E2HLS_INLINE typename e2hls::FixedResult<A, B>::kind operator sign(const A& a, const B& b) {             \
    using Of = e2hls::FixedResult<A, B>;                                                                   \
    using To = typename Of::kind;                                                                          \
    using Wide = typename To::Raw::Value;                                                                  \
    return To::from(static_cast<typename To::Raw::Bits>(e2hls::aligned<Wide, Of::kFraction>(a)             \
                                                            sign e2hls::aligned<Wide, Of::kFraction>(b))); \
  }
E2HLS_FIXED(+, Sum)
E2HLS_FIXED(-, Difference)
E2HLS_FIXED(&, Logic)
E2HLS_FIXED(|, Logic)
E2HLS_FIXED(^, Logic)
#undef E2HLS_FIXED

template <typename A, typename B>
  requires e2hls::FixedPair<A, B>
E2HLS_INLINE typename e2hls::FixedResult<A, B>::Product operator*(const A& a, const B& b) {
  using To = typename e2hls::FixedResult<A, B>::Product;
  using Wide = typename e2hls::FixedResult<A, B>::Multiplied;
  return To::from(static_cast<typename To::Raw::Bits>(static_cast<Wide>(e2hls::Fixed<A>::value(a)) *
                                                      static_cast<Wide>(e2hls::Fixed<B>::value(b))));
}
// Behind a number of C++, the vendor types the quotient as if that number were on the right, and cuts it.
template <typename A, typename B>
  requires e2hls::FixedPair<A, B>
E2HLS_INLINE auto operator/(const A& a, const B& b) {
  using Of = e2hls::FixedResult<A, B>;
  using To = typename Of::Quotient;
  using Wide = typename Of::Divided;
  const Wide dividend =
      static_cast<Wide>(static_cast<Wide>(e2hls::Fixed<A>::value(a)) << e2hls::max(Of::kFb, 0));
  using Bits = typename Of::Kept::Bits;
  const auto kept =
      Of::Kept::from(static_cast<Bits>(dividend / static_cast<Wide>(e2hls::Fixed<B>::value(b))));
  const To quotient = To::from(static_cast<typename To::Raw::Bits>(kept.get()));
  if constexpr (e2hls::Native<A>) {
    return typename e2hls::FixedResult<B, A>::Quotient(quotient);
  } else {
    return quotient;
  }
}

// As the vendor does it: by the bits of both, on their common point, as ap_int compares them.
#define E2HLS_COMPARISON(sign)                                                                 \
  template <typename A, typename B>                                                            \
    requires e2hls::FixedPair<A, B>                                                            \
  E2HLS_INLINE bool operator sign(const A& a, const B& b) {                                    \
    using Of = e2hls::FixedResult<A, B>;                                                       \
    using Left = ap_int_base<Of::kA + Of::kFraction - Of::kFa + (Of::kFa < Of::kFb), Of::kSa>; \
    using Right = ap_int_base<Of::kB + Of::kFraction - Of::kFb, Of::kSb>;                      \
    return Left::from(e2hls::aligned<typename Left::Bits, Of::kFraction>(a))                   \
        sign Right::from(e2hls::aligned<typename Right::Bits, Of::kFraction>(b));              \
  }
E2HLS_COMPARISON(==)
E2HLS_COMPARISON(!=)
E2HLS_COMPARISON(<)
E2HLS_COMPARISON(<=)
E2HLS_COMPARISON(>)
E2HLS_COMPARISON(>=)
#undef E2HLS_COMPARISON

#endif  // E2HLS_AP_FIXED_H
