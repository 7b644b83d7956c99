// SPDX-License-Identifier: Apache-2.0
// The operators of ap_int between two operands; ap_int.h includes this once the numbers are there.
#ifndef E2HLS_AP_INT_OPERATORS_H
#define E2HLS_AP_INT_OPERATORS_H

#include "ap_int_references.h"

// Between two numbers; `In` is the type that it is computed in.
#define E2HLS_NUMBERS(sign, kind, In)                                                                \
  template <e2hls::Number A, e2hls::Number B>                                                        \
  E2HLS_INLINE typename e2hls::Result<A, B>::kind operator sign(const A& a, const B& b) {            \
    using To = typename e2hls::Result<A, B>::kind;                                                   \
    using Wide = typename e2hls::Result<A, B>::In;                                                   \
    return To::from(static_cast<typename To::Bits>(e2hls::cast<Wide>(a) sign e2hls::cast<Wide>(b))); \
  }
E2HLS_NUMBERS(+, Sum, Sum::Value)
E2HLS_NUMBERS(-, Difference, Difference::Value)
E2HLS_NUMBERS(*, Product, Product::Value)
E2HLS_NUMBERS(/, Quotient, Divided)
E2HLS_NUMBERS(%, Remainder, Reduced)
E2HLS_NUMBERS(&, Logic, Logic::Value)
E2HLS_NUMBERS(|, Logic, Logic::Value)
E2HLS_NUMBERS(^, Logic, Logic::Value)
#undef E2HLS_NUMBERS

#define E2HLS_SHIFT(sign, left)                                                                       \
  template <e2hls::Number A, typename B>                                                              \
    requires e2hls::Numbers<A, B>                                                                     \
  E2HLS_INLINE A operator sign(const A& a, const B& b) {                                              \
    using Of = e2hls::Operand<A>;                                                                     \
    return A::from(                                                                                   \
        static_cast<typename A::Bits>(e2hls::shift<left, Of::kWidth, Of::kSigned>(Of::value(a), b))); \
  }                                                                                                   \
  template <e2hls::Concat A, typename B>                                                              \
    requires(e2hls::Native<B> || e2hls::Number<B> || e2hls::Range<B>)                                 \
  E2HLS_INLINE auto operator sign(const A& a, const B& b) {                                           \
    return a.get() sign static_cast<int>(b);                                                          \
  }                                                                                                   \
  template <typename A, e2hls::Concat B>                                                              \
    requires(e2hls::Number<A> || e2hls::Range<A>)                                                     \
  E2HLS_INLINE auto operator sign(const A& a, const B& b) {                                           \
    return a sign static_cast<unsigned long long>(b);                                                 \
  }
E2HLS_SHIFT(<<, true)
E2HLS_SHIFT(>>, false)
#undef E2HLS_SHIFT

// With numbers of C++ and with references: as the numbers that they stand for.
#define E2HLS_MIXED(sign, kind)                                                                \
  template <typename A, typename B>                                                            \
    requires e2hls::NumberAndNative<A, B>                                                      \
  E2HLS_INLINE typename e2hls::MixedResult<A, B>::kind operator sign(const A& a, const B& b) { \
    return e2hls::number_of(a) sign e2hls::number_of(b);                                       \
  }                                                                                            \
  E2HLS_SELECTED(sign, kind)
#define E2HLS_SELECTED(sign, kind)                                                                \
  template <typename A, typename B>                                                               \
    requires e2hls::References<A, B>                                                              \
  E2HLS_INLINE typename e2hls::SelectedResult<A, B>::kind operator sign(const A& a, const B& b) { \
    return e2hls::number_of(a) sign e2hls::number_of(b);                                          \
  }
// A concatenation has no arithmetic with others than its like.
#define E2HLS_DECAYED(sign, Pair)                           \
  template <typename A, typename B>                         \
    requires e2hls::Pair<A, B>                              \
  E2HLS_INLINE auto operator sign(const A& a, const B& b) { \
    if constexpr (e2hls::Concat<A>) {                       \
      return static_cast<unsigned long long>(a) sign b;     \
    } else {                                                \
      return a sign static_cast<unsigned long long>(b);     \
    }                                                       \
  }
#define E2HLS_ARITHMETIC(sign, kind)   \
  E2HLS_MIXED(sign, kind)              \
  E2HLS_DECAYED(sign, ConcatAndNumber) \
  E2HLS_DECAYED(sign, ConcatAndRange)
E2HLS_ARITHMETIC(+, Sum)
E2HLS_ARITHMETIC(-, Difference)
E2HLS_ARITHMETIC(*, Product)
E2HLS_ARITHMETIC(/, Quotient)
E2HLS_ARITHMETIC(%, Remainder)
#undef E2HLS_ARITHMETIC

#define E2HLS_LOGIC(sign)                                                                    \
  E2HLS_MIXED(sign, Logic)                                                                   \
  E2HLS_DECAYED(sign, ConcatAndRange)                                                        \
  template <typename A, typename B>                                                          \
    requires e2hls::ConcatAndNumber<A, B>                                                    \
  E2HLS_INLINE auto operator sign(const A& a, const B& b) {                                  \
    constexpr int kWidth = e2hls::max(e2hls::Operand<A>::kWidth, e2hls::Operand<B>::kWidth); \
    constexpr bool kSigned = e2hls::Operand<A>::kSigned || e2hls::Operand<B>::kSigned;       \
    return ap_int_base<kWidth, kSigned>(e2hls::number_of(a) sign e2hls::number_of(b));       \
  }
E2HLS_LOGIC(&)
E2HLS_LOGIC(|)
E2HLS_LOGIC(^)
#undef E2HLS_LOGIC
E2HLS_SELECTED(<<, Shifted)
E2HLS_SELECTED(>>, Shifted)
#undef E2HLS_MIXED
#undef E2HLS_SELECTED
#undef E2HLS_DECAYED

// A number of C++ in front of a reference is compared as such, and so is whatever stands behind one.
#define E2HLS_COMPARISON(sign, kind)                                                                       \
  template <typename A, typename B>                                                                        \
    requires e2hls::Numbers<A, B>                                                                          \
  E2HLS_INLINE bool operator sign(const A& a, const B& b) {                                                \
    using Wide = typename e2hls::Result<A, B>::kind;                                                       \
    return e2hls::cast<Wide>(a) sign e2hls::cast<Wide>(b);                                                 \
  }                                                                                                        \
  template <typename A, typename B>                                                                        \
    requires(!e2hls::Native<A> && (e2hls::References<A, B> || e2hls::ConcatAndNumber<A, B> ||              \
                                   e2hls::ConcatAndRange<A, B> || (e2hls::Concat<A> && e2hls::Native<B>))) \
  E2HLS_INLINE bool operator sign(const A& a, const B& b) {                                                \
    if constexpr (e2hls::Concat<B> && !e2hls::Number<A>) {                                                 \
      return e2hls::number_of(a) sign static_cast<unsigned long long>(b);                                  \
    } else {                                                                                               \
      return e2hls::number_of(a) sign e2hls::number_of(b);                                                 \
    }                                                                                                      \
  }                                                                                                        \
  template <e2hls::Native A, typename B>                                                                   \
    requires(e2hls::Range<B> || e2hls::Concat<B>)                                                          \
  E2HLS_INLINE bool operator sign(const A& a, const B& b) {                                                \
    return static_cast<unsigned long long>(a) sign static_cast<unsigned long long>(b);                     \
  }
E2HLS_COMPARISON(==, Equal)
E2HLS_COMPARISON(!=, Equal)
E2HLS_COMPARISON(<, Ordered)
E2HLS_COMPARISON(<=, Ordered)
E2HLS_COMPARISON(>, Ordered)
E2HLS_COMPARISON(>=, Ordered)
#undef E2HLS_COMPARISON

template <e2hls::Vendor A, e2hls::Vendor B>
E2HLS_INLINE ap_concat_ref<A, B> operator,(const A& high, const B& low) {
  return {high, low};
}
// With a number of C++: a value. The sign of one behind a concatenation, or in front of bits that do not fill
// their type, goes all the way up.
template <e2hls::Vendor A, e2hls::Native B>
E2HLS_INLINE auto operator,(const A& high, const B& low) {
  constexpr int kLow = e2hls::Operand<B>::kWidth;
  using To = ap_uint<e2hls::Operand<A>::kWidth + kLow>;
  using Bits = typename To::Bits;
  const Bits upper = static_cast<Bits>(e2hls::cast<Bits>(high) << kLow);
  if constexpr (e2hls::Concat<A>) {
    return To::from(upper | e2hls::cast<Bits>(low));
  } else {
    return To::from(upper | static_cast<Bits>(e2hls::cast<unsigned _BitInt(kLow)>(low)));
  }
}
template <e2hls::Native A, e2hls::Vendor B>
E2HLS_INLINE auto operator,(const A& high, const B& low) {
  constexpr int kLow = e2hls::Operand<B>::kWidth;
  using To = ap_uint<e2hls::Operand<A>::kWidth + kLow>;
  using Bits = typename To::Bits;
  const Bits upper = static_cast<Bits>(e2hls::cast<Bits>(high) << low.length());
  return To::from(upper | static_cast<Bits>(e2hls::cast<unsigned _BitInt(kLow)>(low)));
}

#endif  // E2HLS_AP_INT_OPERATORS_H
