// SPDX-License-Identifier: Apache-2.0
// One iteration of the multiplier array.
#pragma once

#include "factors.hpp"
#include "messages.hpp"

// The vectors of one row of w_buf: all of them, and the one or two that an address picks.
template <int kIcLanes, int kOcLanes>
struct WRow {
  ap_uint<8 * kIcLanes> all[2 * kOcLanes];
  ap_uint<8 * kIcLanes> even;
  ap_uint<8 * kIcLanes> odd;
  ap_uint<8 * kIcLanes> one;

  template <typename Bank>
  void pick(Bank bank) {
    #pragma HLS INLINE
    ap_uint<8 * kIcLanes> evens[kOcLanes];
    ap_uint<8 * kIcLanes> odds[kOcLanes];
  banks:
    for (int o = 0; o < kOcLanes; ++o) {
      #pragma HLS UNROLL
      evens[o] = all[2 * o];
      odds[o] = all[2 * o + 1];
    }
    const Bank pair = bank >> 1;
    even = mux_tree<kOcLanes>(evens, pair);
    odd = mux_tree<kOcLanes>(odds, pair);
    one = bank[0] ? odd : even;
  }
};

// The factors of one iteration: a[c] times b(o, c) goes to the accumulator of (o, c).
template <int kIcLanes, int kOcLanes>
struct Factors {
  ap_int<16> a[kIcLanes];
  PairFactor shared[kOcLanes];  // of gradients, for all input lanes
  bool low_negative[kOcLanes];  // the sign of the one in the low field

  void take_x(ap_uint<16 * kIcLanes> x, bool inside, bool high, const HighBits& high_bits) {
    #pragma HLS INLINE
  lanes:
    for (int c = 0; c < kIcLanes; ++c) {
      #pragma HLS UNROLL
      const ap_int<16> lane = x(16 * c + 15, 16 * c);
      const ap_int<16> factor = high ? high_bits.of_x(lane) : lane;
      a[c] = inside ? factor : ap_int<16>(0);
    }
  }
  // Of int8 the halves of one vector make pairs, of int16 two vectors.
  void take_gradients(const WRow<kIcLanes, kOcLanes>& row, bool pairs, const HighBits& high_bits) {
    #pragma HLS INLINE
  lanes:
    for (int o = 0; o < kOcLanes; ++o) {
      #pragma HLS UNROLL
      const ap_int<16> single = row.one(16 * o + 15, 16 * o);
      const ap_int<16> even = row.even(16 * o + 15, 16 * o);
      const ap_int<16> odd = row.odd(16 * o + 15, 16 * o);
      const ap_int<16> low = ap_int<16>(row.one(8 * o + 7, 8 * o)) << 8;
      const ap_int<16> high = ap_int<16>(row.one(8 * (o + kOcLanes) + 7, 8 * (o + kOcLanes))) << 8;
      const ap_int<16> first = high_bits.narrow ? low : even;
      const PairFactor two = high_bits.of_pair(first, high_bits.narrow ? high : odd);
      shared[o] = pairs ? two : PairFactor(single);
      low_negative[o] = high_bits.of_g(first) < 0;
    }
  }
};

// Multiply and accumulate on all lanes. What the accumulators held before goes to bundle and wraps.
template <int kIcLanes, int kOcLanes, int kWrapBits>
void multiply(const Factors<kIcLanes, kOcLanes>& factors, const WRow<kIcLanes, kOcLanes>& w, bool outer,
              bool pairs, bool second, bool begins, bool began, ap_int<kAccBits> acc[kOcLanes][kIcLanes],
              WrapCount<kWrapBits> counts[kOcLanes][kIcLanes], Bundle<kIcLanes, kOcLanes>& bundle,
              Wraps<kIcLanes, kOcLanes, kWrapBits>& wraps) {
  #pragma HLS INLINE
oc_lanes:
  for (int o = 0; o < kOcLanes; ++o) {
    #pragma HLS UNROLL
  ic_lanes:
    for (int c = 0; c < kIcLanes; ++c) {
      #pragma HLS UNROLL
      const WeightPair weights = {w.all[2 * o](8 * c + 7, 8 * c), w.all[2 * o + 1](8 * c + 7, 8 * c)};
      const PairFactor b = outer ? factors.shared[o] : weights.factor(pairs, second);
      const bool low_negative = outer ? factors.low_negative[o] : weights.even < 0;
      // Sent before they are overwritten: the DSP slice's output register needs no copy.
      wraps[o * kIcLanes + c] = counts[o][c].wraps;
      bundle.acc[o * kIcLanes + c] = acc[o][c];
      counts[o][c].follow(acc[o][c][kFieldBits - 1], began);
      counts[o][c].negative = low_negative != (factors.a[c] < 0);
      acc[o][c] = (begins ? ap_int<kAccBits>(0) : acc[o][c]) + factors.a[c] * b;
    }
  }
}
