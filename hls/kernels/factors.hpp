// SPDX-License-Identifier: Apache-2.0
// What the multipliers multiply, and how two products share one.
#pragma once

#include "messages.hpp"
#include "round_shift.hpp"

// Two factors side by side: the port of a DSP slice.
using PairFactor = ap_int<25>;

// The gradients of one vector or two, high bits alone or all of them, as factors of output lane o.
//
// Fewer bits than the most stay at the top of their field, so that nothing is shifted by a variable: the sums
// are multiples of a power of two then. int16 gradients keep 10 bits, which do not fit 16 bits beside each
// other; they stand 14 bits apart, and x counts four times.
struct HighBits {
  bool narrow;  // int8 gy
  ap_int<9> x_half;
  ap_int<9> x_mask;
  ap_int<10> x_end;
  ap_int<16> g_half;
  ap_int<16> g_mask;

  void set(ap_uint<4> x_kept, ap_uint<4> g_kept, bool x_signed, bool of_int8) {
    #pragma HLS INLINE
    narrow = of_int8;
    x_half = ap_int<9>(128) >> x_kept;
    x_mask = ap_int<9>(-256) >> x_kept;
    x_end = x_signed ? 128 : 256;
    g_half = ap_uint<16>(0x8000) >> g_kept;
    g_mask = ap_int<17>(-0x10000) >> g_kept;
  }
  ap_int<16> of_x(ap_int<16> lane) const {
    #pragma HLS INLINE
    const ap_int<9> kept = keep_high<9>(lane, x_half, x_mask, x_end);  // 8 bits, signed or not, have nine
    return narrow ? ap_int<16>(kept) : ap_int<16>(kept >> (8 - kXKept - 2));
  }
  ap_int<16> of_g(ap_int<16> g) const {
    #pragma HLS INLINE
    return keep_high<16>(g, g_half, g_mask, 0x8000);
  }
  PairFactor of_pair(ap_int<16> even, ap_int<16> odd) const {
    #pragma HLS INLINE
    constexpr int kCut = 16 - kGKept;
    const PairFactor high = of_g(odd);
    const PairFactor low = of_g(even);
    const PairFactor wide = ((high >> kCut) << (kFieldBits - 2)) + (low >> kCut);
    const PairFactor close = ((high >> 8) << kFieldBits) + (low >> 8);
    return narrow ? close : wide;
  }
};

// How often the low field of an accumulator has wrapped: up less down.
//
// A product is less than half the field. So the field has wrapped up where its highest bit falls though the
// product is positive, and down where it rises though the product is negative.
template <int kWrapBits>
struct WrapCount {
  ap_int<kWrapBits> wraps;
  bool before;    // highest bit of the field before the latest product
  bool negative;  // the latest product

  void follow(bool now, bool first) {
    #pragma HLS INLINE
    const bool was = !first && before;
    const bool up = was && !now && !negative;
    const bool down = !was && now && negative;
    const ap_int<2> step = up ? 1 : down ? -1 : 0;
    wraps = (first ? ap_int<kWrapBits>(0) : wraps) + step;
    before = now;
  }
};

// The weights of one multiplier: two side by side, the second of which the loader has lowered by the sign of
// the first, or one of them.
struct WeightPair {
  ap_int<8> even;
  ap_int<8> odd;

  PairFactor factor(bool pairs, bool second) const {
    #pragma HLS INLINE
    const ap_int<8> low = second ? odd : even;
    const ap_int<9> high = pairs ? ap_int<9>(odd) : ap_int<9>(low >> 7);
    return (PairFactor(high) << kFieldBits) | PairFactor(ap_uint<kFieldBits>(ap_int<kFieldBits>(low)));
  }
};
