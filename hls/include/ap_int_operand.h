// SPDX-License-Identifier: Apache-2.0
// What may stand in an expression of ap_int: its width, its sign, its value; and the widths of results.
#ifndef E2HLS_AP_INT_OPERAND_H
#define E2HLS_AP_INT_OPERAND_H

#include <type_traits>

#ifndef __SYNTHESIS__
  #include "native_error.h"
#endif

#define E2HLS_INLINE [[gnu::always_inline]] constexpr

template <int kWidth, bool kSigned>
struct ap_int_base;
template <int kWidth>
using ap_int = ap_int_base<kWidth, true>;
template <int kWidth>
using ap_uint = ap_int_base<kWidth, false>;

#ifdef __SYNTHESIS__
// Known to the compiler by name: `index`, which is to be one of 0 .. width - 1.
[[gnu::const]] int __hls_index(int index, int width) noexcept;
#endif

namespace e2hls {

constexpr int max(int a, int b) { return a > b ? a : b; }
constexpr int min(int a, int b) { return a < b ? a : b; }

// `index` of a bit, once it is seen to be there.
E2HLS_INLINE int checked_index(int index, int width) {
  if (__builtin_is_constant_evaluated()) return index;
#ifdef __SYNTHESIS__
  return __hls_index(index, width);
#else
  if (index < 0 || index >= width) {
    [[clang::nomerge]] fail_index(index, width);
  }
  return index;
#endif
}

// A signed _BitInt needs two bits: ap_int<1> is stored as one unsigned bit and computed in two.
template <int kWidth, bool kSigned>
struct Raw {
  using Value = unsigned _BitInt(kWidth);
  using Stored = unsigned _BitInt(kWidth);
};
template <int kWidth>
struct Raw<kWidth, true> {
  using Value = _BitInt(kWidth);
  using Stored = _BitInt(kWidth);
};
template <>
struct Raw<1, true> {
  using Value = _BitInt(2);
  using Stored = unsigned _BitInt(1);
};
template <int kWidth, bool kSigned>
using Value = typename Raw<kWidth, kSigned>::Value;

enum class Kind { kNone, kNative, kNumber, kRange, kBit, kConcat, kFixedRange, kFixedBit };

// A type in an expression; kOwnSigned is the sign of the number itself where a range has none.
template <typename T, typename = void>
struct Operand {
  static constexpr Kind kKind = Kind::kNone;
};
template <int kWidthOf, bool kSignedOf>
struct Operand<ap_int_base<kWidthOf, kSignedOf>> {
  static constexpr Kind kKind = Kind::kNumber;
  static constexpr int kWidth = kWidthOf;
  static constexpr bool kSigned = kSignedOf;
  static constexpr bool kOwnSigned = kSignedOf;
  E2HLS_INLINE static Value<kWidth, kSigned> value(const ap_int_base<kWidth, kSigned>& x) { return x.get(); }
};
template <typename T>
struct Operand<T, std::enable_if_t<std::is_integral_v<T>>> {
  static constexpr Kind kKind = Kind::kNative;
  static constexpr int kWidth = std::is_same_v<T, bool> ? 1 : 8 * static_cast<int>(sizeof(T));
  static constexpr bool kSigned = std::is_signed_v<T>;
  static constexpr bool kOwnSigned = kSigned;
  E2HLS_INLINE static Value<kWidth, kSigned> value(T x) { return static_cast<Value<kWidth, kSigned>>(x); }
};

template <typename T>
constexpr Kind kind_of = Operand<T>::kKind;
template <typename T>
concept Any = kind_of<T> != Kind::kNone;
template <typename T>
concept Native = kind_of<T> == Kind::kNative;
template <typename T>
concept Number = kind_of<T> == Kind::kNumber;
template <typename T>
concept Range = kind_of<T> == Kind::kRange;
template <typename T>
concept Concat = kind_of<T> == Kind::kConcat;
template <typename T>
concept FixedBits = kind_of<T> == Kind::kFixedRange || kind_of<T> == Kind::kFixedBit;
template <typename T>
concept Vendor = Any<T> && !Native<T>;

// Which operands the vendor's operators take: a pair that is not here decays to C++'s own numbers.
template <typename A, typename B>
concept NumberAndNative = (Number<A> && Native<B>) || (Native<A> && Number<B>);
template <typename A, typename B>
concept Numbers = (Number<A> && Number<B>) || NumberAndNative<A, B>;
template <typename T>
concept Selected = Range<T> || kind_of<T> == Kind::kBit;
template <typename A, typename B>
concept References =
    (Number<A> && Selected<B>) || (Selected<A> && Number<B>) || (Range<A> && (Selected<B> || Native<B>)) ||
    ((Selected<A> || Native<A>) && Range<B>) || (Concat<A> && Concat<B>);
template <typename A, typename B>
concept ConcatAndNumber = (Concat<A> && Number<B>) || (Number<A> && Concat<B>);
template <typename A, typename B>
concept ConcatAndRange = (Concat<A> && Range<B>) || (Range<A> && Concat<B>);

// Widths of results, as the vendor states them.
template <int kA, bool kSa, int kB, bool kSb>
struct Widths {
  static constexpr bool kSigned = kSa || kSb;
  static constexpr int kLogic = max(kA + (kSb && !kSa), kB + (kSa && !kSb));
  using Sum = ap_int_base<kLogic + 1, kSigned>;
  using Difference = ap_int_base<kLogic + 1, true>;
  using Product = ap_int_base<kA + kB, kSigned>;
  using Quotient = ap_int_base<kA + kSb, kSigned>;
  using Remainder = ap_int_base<min(kA, kB + (!kSb && kSa)), kSa>;
  using Logic = ap_int_base<kLogic, kSigned>;
  using Shifted = ap_int_base<kA, kSa>;
};
template <typename A, typename B>
struct Result : Widths<Operand<A>::kWidth, Operand<A>::kSigned, Operand<B>::kWidth, Operand<B>::kSigned> {
  static constexpr int kA = Operand<A>::kWidth;
  static constexpr int kB = Operand<B>::kWidth;
  static constexpr bool kSa = Operand<A>::kSigned;
  static constexpr bool kSb = Operand<B>::kSigned;
  static constexpr bool kMixed = kSa != kSb;
  static constexpr int kCommon = Result::kLogic + 1;
  using Common = Value<kCommon, Result::kSigned>;  // holds both operands
  // As in C, an order is unsigned where the unsigned operand is at least as wide as the signed one, from 32
  // bits on.
  static constexpr bool kUnsignedWins = kMixed && (kSa ? kB >= kA : kA >= kB) && (kA >= 32 || kB >= 32);
  using Ordered = Value<kCommon, Result::kSigned && !kUnsignedWins>;
  // Equality of mixed signs compares bits, extended by the sign to the wider operand or further.
  static constexpr int kBits = kA == kB && kA <= 64 ? 64 : max(max(kA, kB), 32);
  using Equal = std::conditional_t<kMixed, Value<kBits, false>, Common>;
  // The wider operand says whether a quotient of mixed signs is one of signed numbers; a remainder is that
  // only where the dividend has a sign, too.
  static constexpr int kDivided = max(kA, kB) + Result::kSigned;
  static constexpr bool kSignedDivision = kA > kB ? kSa : kB > kA ? kSb : Result::kSigned;
  using Divided = Value<kDivided, kSignedDivision>;
  using Reduced = Value<kDivided, kSignedDivision && kSa>;
};
// With a number of C++ on either side, results are typed as if it were on the right.
template <typename A, typename B>
struct MixedResult : std::conditional_t<Native<A>, Result<B, A>, Result<A, B>> {};
// Results on a range and a number are typed by the number that the range selects from.
template <typename A, typename B>
struct SelectedResult : Widths<Operand<A>::kWidth, Number<B> ? Operand<A>::kOwnSigned : Operand<A>::kSigned,
                               Operand<B>::kWidth, Number<A> ? Operand<B>::kOwnSigned : Operand<B>::kSigned> {
};

template <typename To, typename T>
E2HLS_INLINE To cast(const T& x) {
  return static_cast<To>(Operand<T>::value(x));
}

// What bits of a fixed-point number are in arithmetic.
template <typename T>
E2HLS_INLINE decltype(auto) decayed(const T& x) {
  if constexpr (kind_of<T> == Kind::kFixedRange) {
    return static_cast<unsigned long long>(x);
  } else if constexpr (kind_of<T> == Kind::kFixedBit) {
    return x.to_bool();
  } else {
    return (x);
  }
}

// Shifts by the width or more shift everything out; a negative amount shifts the other way.
template <int kWidth, bool kSigned>
E2HLS_INLINE Value<kWidth, kSigned> up(Value<kWidth, kSigned> x, unsigned by, bool fits) {
  using Bits = unsigned _BitInt(kWidth < 2 ? 2 : kWidth);
  return fits || by < kWidth ? static_cast<Value<kWidth, kSigned>>(static_cast<Bits>(x) << by) : 0;
}
template <int kWidth, bool kSigned>
E2HLS_INLINE Value<kWidth, kSigned> down(Value<kWidth, kSigned> x, unsigned by, bool fits) {
  if (fits || by < kWidth) return x >> by;
  return kSigned && x < 0 ? static_cast<Value<kWidth, kSigned>>(-1) : 0;
}

// Of a number as an amount, as the vendor has it, the low 32 bits count.
template <typename Amount, typename T>
E2HLS_INLINE unsigned bounded(const T& size, int width) {
  if constexpr (Number<Amount> && Operand<Amount>::kWidth > 32) {
    const unsigned low = static_cast<unsigned>(size);
    return low > static_cast<unsigned>(width) ? static_cast<unsigned>(width) : low;
  } else {
    return size > width ? static_cast<unsigned>(width) : static_cast<unsigned>(size);
  }
}
template <bool kLeft, int kWidth, bool kSigned, typename Amount>
E2HLS_INLINE Value<kWidth, kSigned> shift(Value<kWidth, kSigned> x, const Amount& amount) {
  using Of = Operand<Amount>;
  constexpr bool kFits = Of::kWidth < 31 && (1LL << (Of::kWidth < 31 ? Of::kWidth : 0)) <= kWidth;
  const auto by = Of::value(amount);
  if constexpr (Of::kSigned) {
    using Wide = _BitInt(Of::kWidth + 1);
    const bool left = kLeft == (by >= 0);
    const Wide size = by < 0 ? static_cast<Wide>(-static_cast<Wide>(by)) : static_cast<Wide>(by);
    const unsigned count = bounded<Amount>(size, kWidth);
    return left ? up<kWidth, kSigned>(x, count, kFits) : down<kWidth, kSigned>(x, count, kFits);
  } else {
    const unsigned count = kFits ? static_cast<unsigned>(by) : bounded<Amount>(by, kWidth);
    return kLeft ? up<kWidth, kSigned>(x, count, kFits) : down<kWidth, kSigned>(x, count, kFits);
  }
}

// `then` where `condition`, else `other`.
template <typename T>
E2HLS_INLINE T choose(bool condition, T then, T other) {
  const T all = static_cast<T>(-static_cast<T>(condition));
  return static_cast<T>((then & all) | (other & static_cast<T>(~all)));
}

// The bits in reverse order: neighbours change places, then pairs, then groups of four.
template <int kGroup, int kBits>
E2HLS_INLINE unsigned _BitInt(kBits) swap_groups(unsigned _BitInt(kBits) x) {
  if constexpr (kGroup == kBits) {
    return x;
  } else {
    using Bits = unsigned _BitInt(kBits);
    constexpr Bits kEven = static_cast<Bits>(static_cast<Bits>(-1) / ((static_cast<Bits>(1) << kGroup) + 1));
    return swap_groups<2 * kGroup, kBits>(
        static_cast<Bits>((x >> kGroup & kEven) | static_cast<Bits>((x & kEven) << kGroup)));
  }
}
constexpr int power_of_two(int width) {
  int power = 1;
  while (power < width) power *= 2;
  return power;
}
template <int kWidth>
E2HLS_INLINE unsigned _BitInt(kWidth) reversed(unsigned _BitInt(kWidth) x) {
  constexpr int kBits = power_of_two(kWidth);
  using Bits = unsigned _BitInt(kBits);
  return static_cast<unsigned _BitInt(kWidth)>(swap_groups<1, kBits>(static_cast<Bits>(x)) >>
                                               (kBits - kWidth));
}

}  // namespace e2hls

#endif  // E2HLS_AP_INT_OPERAND_H
