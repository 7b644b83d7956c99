// SPDX-License-Identifier: Apache-2.0
// From one fixed-point format to another: first the bits behind the point are rounded, then those in front
// of it are made to fit.
#ifndef E2HLS_AP_FIXED_CONVERT_H
#define E2HLS_AP_FIXED_CONVERT_H

#ifndef __SYNTHESIS__
  #include <cmath>
#endif

#include "ap_int.h"

enum ap_q_mode { AP_RND, AP_RND_ZERO, AP_RND_MIN_INF, AP_RND_INF, AP_RND_CONV, AP_TRN, AP_TRN_ZERO };
enum ap_o_mode { AP_SAT, AP_SAT_ZERO, AP_SAT_SYM, AP_WRAP, AP_WRAP_SM };

template <int kWidth, int kInteger, bool kSigned, ap_q_mode kRounding, ap_o_mode kOverflow, int kSaturated>
struct ap_fixed_base;

namespace e2hls {

// What may stand in an expression of ap_fixed; whole numbers have nothing behind their point.
template <typename T>
struct Fixed {
  static constexpr bool kIs = false;
  static constexpr bool kHasPoint = false;
};
template <Any T>
struct Fixed<T> {
  static constexpr bool kIs = true;
  static constexpr bool kHasPoint = false;
  static constexpr int kWidth = Operand<T>::kWidth;
  static constexpr int kFraction = 0;
  static constexpr bool kSigned = Operand<T>::kSigned;
  E2HLS_INLINE static Value<kWidth, kSigned> value(const T& x) { return Operand<T>::value(x); }
};
template <typename T>
concept FixedOperand = Fixed<T>::kIs;
template <typename A, typename B>
concept FixedPair = FixedOperand<A> && FixedOperand<B> && !FixedBits<A> && !FixedBits<B> &&
                    (Fixed<A>::kHasPoint || Fixed<B>::kHasPoint);

// `x` without its low kDropped bits: rounded as the mode says.
template <int kDropped, ap_q_mode kRounding, typename Wide>
E2HLS_INLINE Wide rounded(Wide x) {
  const Wide floor = static_cast<Wide>(x >> kDropped);
  const Wide half = static_cast<Wide>(static_cast<Wide>(1) << (kDropped - 1));
  const Wide rest = static_cast<Wide>(x & static_cast<Wide>(static_cast<Wide>(half << 1) - 1));
  const bool odd = (floor & 1) != 0;
  const bool negative = x < 0;
  bool up = false;
  if constexpr (kRounding == AP_TRN_ZERO) {
    up = negative && rest != 0;
  } else if constexpr (kRounding == AP_RND) {
    up = rest >= half;
  } else if constexpr (kRounding == AP_RND_ZERO) {
    up = rest > half || (rest == half && negative);
  } else if constexpr (kRounding == AP_RND_MIN_INF) {
    up = rest > half;
  } else if constexpr (kRounding == AP_RND_INF) {
    up = rest > half || (rest == half && !negative);
  } else if constexpr (kRounding == AP_RND_CONV) {
    up = rest > half || (rest == half && odd);
  }
  return static_cast<Wide>(floor + static_cast<Wide>(up));
}

// The bits of `x` that fit into a number: or what the mode puts in the place of one that is too large.
template <int kWidth, bool kSigned, ap_o_mode kOverflow, typename Wide>
E2HLS_INLINE ap_int_base<kWidth, kSigned> fitted(Wide x) {
  using To = ap_int_base<kWidth, kSigned>;
  if constexpr (kOverflow != AP_WRAP && kOverflow != AP_WRAP_SM) {
    constexpr Wide kOne = 1;
    constexpr Wide kHighest = static_cast<Wide>(static_cast<Wide>(kOne << (kWidth - kSigned)) - 1);
    constexpr Wide kLeast = kSigned ? static_cast<Wide>(-kHighest - 1) : static_cast<Wide>(0);
    constexpr Wide kLowest = kOverflow == AP_SAT_SYM && kSigned ? static_cast<Wide>(-kHighest) : kLeast;
    if constexpr (kOverflow == AP_SAT_ZERO) {
      x = x > kHighest || x < kLowest ? static_cast<Wide>(0) : x;
    } else {
      x = x > kHighest ? kHighest : x < kLowest ? kLowest : x;
    }
  }
  return To::from(static_cast<typename To::Bits>(x));
}

template <int kWidth, int kFraction, bool kSigned, ap_q_mode kRounding, ap_o_mode kOverflow, int kFrom,
          int kFromFraction, bool kFromSigned>
E2HLS_INLINE ap_int_base<kWidth, kSigned> fixed_cast(Value<kFrom, kFromSigned> x) {
  constexpr int kUp = max(kFraction - kFromFraction, 0);
  constexpr int kDown = max(kFromFraction - kFraction, 0);
  // Room for a sign and a carry, for the bound of a saturated number and for the half that is rounded.
  using Wide = _BitInt(max(max(kFrom + kUp, kWidth), kDown) + 3);
  const Wide moved = static_cast<Wide>(static_cast<Wide>(x) << kUp);
  if constexpr (kDown > 0) {
    return fitted<kWidth, kSigned, kOverflow, Wide>(rounded<kDown, kRounding, Wide>(moved));
  } else {
    return fitted<kWidth, kSigned, kOverflow, Wide>(moved);
  }
}

// Of a double: as the nearest number with two more bits behind the point, the last one of which tells whether
// more were dropped; far above every format where it is too large.
template <int kWidth, int kFraction, bool kSigned, ap_q_mode kRounding, ap_o_mode kOverflow>
E2HLS_INLINE ap_int_base<kWidth, kSigned> fixed_of_double(double x) {
  using Wide = _BitInt(kWidth + 64);
  const auto bits = __builtin_bit_cast(unsigned long long, x);
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  const unsigned long long mantissa = (bits & 0xfffffffffffffull) | (exponent == 0 ? 0 : 0x10000000000000ull);
  const int up = (exponent == 0 ? 1 : exponent) - 1075 + kFraction + 2;
  Wide size = 0;
  if (up >= kWidth + 8) {
    size = mantissa == 0 ? static_cast<Wide>(0) : static_cast<Wide>(static_cast<Wide>(1) << (kWidth + 60));
  } else if (up >= 0) {
    size = static_cast<Wide>(static_cast<Wide>(mantissa) << up);
  } else if (up > -54) {
    const unsigned long long rest = mantissa & ((1ull << -up) - 1);
    size = static_cast<Wide>(mantissa >> -up | (rest != 0));
  } else {
    size = static_cast<Wide>(mantissa != 0);
  }
  const Wide value = bits >> 63 ? static_cast<Wide>(-size) : size;
  return fitted<kWidth, kSigned, kOverflow, Wide>(rounded<2, kRounding, Wide>(value));
}

// What is in front of the point, rounded towards zero.
template <int kWidth, int kFraction, bool kSigned>
E2HLS_INLINE auto integer_part(Value<kWidth, kSigned> x) {
  constexpr int kUp = max(-kFraction, 0);
  using Wide = _BitInt(kWidth + kUp + 2);
  const Wide moved = static_cast<Wide>(static_cast<Wide>(x) << kUp);
  using To = ap_int<kWidth + kUp + 2>;
  if constexpr (kFraction > 0) {
    return To::from(
        static_cast<typename To::Bits>(rounded<min(kFraction, kWidth), AP_TRN_ZERO, Wide>(moved)));
  } else {
    return To::from(static_cast<typename To::Bits>(moved));
  }
}

}  // namespace e2hls

#endif  // E2HLS_AP_FIXED_CONVERT_H
