// SPDX-License-Identifier: Apache-2.0
// What compute tells store.
#pragma once

// What store needs to know of a frame.
struct Order {
  ap_uint<8> mode;
  ap_uint<16> tag;
  ap_uint<8> status;
  ap_uint<6> shift;
  bool wide;          // sums leave as int64, unshifted
  bool last;          // this reply ends the transfer
  ap_uint<32> words;  // taken from the input
};

constexpr int kAccBits = 48;  // as wide as a DSP slice adds

// All accumulators at the end of one reduction, acc[o * kIcLanes + c].
template <int kIcLanes, int kOcLanes>
struct Bundle {
  hls::vector<ap_int<kAccBits>, kIcLanes * kOcLanes> acc;
  bool last;  // of the frame
};
