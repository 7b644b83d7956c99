// SPDX-License-Identifier: Apache-2.0
// What compute tells store.
#pragma once

#include "frame.hpp"
#include "pick.hpp"

// What store needs to know of a frame.
struct Order {
  ap_uint<8> mode;
  ap_uint<kNonceBits> nonce;
  ap_uint<8> status;
  ap_uint<6> shift;
  bool wide;          // sums leave as int64, unshifted
  bool last;          // this reply ends the transfer
  ap_uint<32> words;  // taken from the input

  // Whether w_buf holds output gradients, and every pair of lanes has a sum of its own.
  bool outer() const {
    #pragma HLS INLINE
    return mode == kGradWeight || mode == kGradMsb;
  }
};

constexpr int kAccBits = 48;  // as wide as a DSP slice adds

// grad_msb adds up two sums in one accumulator, kFieldBits apart, and counts how often the low field wraps.
constexpr int kFieldBits = 14;  // holds any product of the high bits
static_assert(((1 << kXKept) - 1) << (kGKept - 1) < 1 << (kFieldBits - 1),
              "kFieldBits: a product of the high bits must fit");

// Bits of that count: no sum over w_buf is longer than half its vectors.
constexpr int wrap_bits(int oc_lanes, int w_depth) { return log2_ceil(oc_lanes * w_depth / 2); }

// All accumulators at the end of one reduction, acc[o * kIcLanes + c].
template <int kIcLanes, int kOcLanes>
struct Bundle {
  hls::vector<ap_int<kAccBits>, kIcLanes * kOcLanes> acc;
  bool last;  // of the frame
};

// The counts that go with a bundle of grad_msb, in the same order.
template <int kIcLanes, int kOcLanes, int kWrapBits>
using Wraps = hls::vector<ap_int<kWrapBits>, kIcLanes * kOcLanes>;
