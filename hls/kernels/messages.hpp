// SPDX-License-Identifier: Apache-2.0
// What the engine's processes tell each other.
#pragma once

#include "frame.hpp"
#include "mux_tree.hpp"

// What sums needs to know of a frame.
struct SumsCommand {
  ap_uint<8> planes;
  bool products;  // are reported too
  bool holds;     // the next frame reports for this one too
  bool computes;  // rows come
};

// What report needs to know of a frame before its results.
struct ReportCommand {
  ap_uint<8> status;
  bool good;
  ap_uint<32> nonce;
  ap_uint<32> words;       // taken from the input
  Word read;               // their check sum
  ap_uint<12> side_words;  // of sums
  bool identify;
  bool last;   // this reply ends the transfer
  bool holds;  // the next frame reports for this one too
};

// What collect and store need to know of a frame.
struct StoreCommand {
  ap_uint<8> mode;
  ap_uint<8> status;
  ap_uint<32> nonce;
  ap_uint<6> shift;
  ap_uint<3> result;
  ap_uint<32> ceiling;
  ap_uint<16> plane;
  ap_uint<8> planes;
  ap_uint<32> words;  // taken from the input
  Word read;          // their check sum
  bool relu;
  bool pairs;     // two products per multiplier
  bool times4;    // low sums of these come times 4
  bool last;      // this reply ends the transfer
  bool holds;     // the next frame reports for this one too
  bool computes;  // there are results

  // Whether w_buf holds output gradients, and every pair of lanes has a sum of its own.
  bool outer() const {
    #pragma HLS INLINE
    return mode == kGradWeight || mode == kGradMsb;
  }
  bool dot() const {
    #pragma HLS INLINE
    return mode == kForward || mode == kGradInput;
  }
  bool elements() const {
    #pragma HLS INLINE
    return mode == kAffine || mode == kReduce;
  }
  bool good() const {
    #pragma HLS INLINE
    return status == kStatusOk;
  }
  ap_uint<8> reported_planes() const {
    #pragma HLS INLINE
    return good() && !holds ? planes : ap_uint<8>(0);
  }
  // Of each plane half as many words as channels have sums, and as many as have sums of products.
  ap_uint<12> side_words() const {
    #pragma HLS INLINE
    const ap_uint<12> words = ap_uint<12>(reported_planes()) * (kPixelLanes / 2);
    return mode == kAffine ? words : ap_uint<12>(words + (words << 1));
  }
  SumsCommand for_sums() const {
    #pragma HLS INLINE
    return {reported_planes(), mode != kAffine, holds, computes};
  }
  ReportCommand for_report() const {
    #pragma HLS INLINE
    return {status, good(), nonce, words, read, side_words(), mode == kIdentify, last, holds};
  }
};

constexpr int kAccBits = 48;    // as wide as a DSP slice adds
constexpr int kSumBits = 40;    // of all lanes
constexpr int kFieldBits = 16;  // distance of the two sums in an accumulator: holds any product

// Bits of the count of a low field's wraps: no sum over w_buf is longer than all its vectors.
constexpr int wrap_bits(int oc_lanes, int w_depth) { return log2_ceil(oc_lanes * w_depth); }

// All accumulators at the end of one reduction, acc[o * kIcLanes + c].
template <int kIcLanes, int kOcLanes>
struct Bundle {
  hls::vector<ap_int<kAccBits>, kIcLanes * kOcLanes> acc;
  bool last;  // of the frame
};

// The counts that go with a bundle, in the same order; they count only where it holds pairs.
template <int kIcLanes, int kOcLanes, int kWrapBits>
using Wraps = hls::vector<ap_int<kWrapBits>, kIcLanes * kOcLanes>;

// Four sums of all lanes, or in outer modes one sum or two.
struct Quad {
  hls::vector<ap_int<kAccBits>, 4> value;
  bool last;
};

// Four values of an element-wise operation before rounding.
struct Elements {
  hls::vector<ap_int<kSumBits>, 4> value;
  hls::vector<ap_int<16>, 4> other;  // what sums of products multiply them by
  ap_uint<4> closed;                 // lanes whose result is 0
  bool dithers;                      // or halves are rounded up
  ap_uint<8> phase;                  // of the first lane
  bool last;
};

// A word of results, as store hands it to report.
struct Result {
  Word word;
  bool sent;  // or it only ends the frame
  bool last;  // of the frame
};

// Sums of four lanes of a plane, as store hands them to sums.
constexpr int kSideSumBits = 32;
constexpr int kSideProductBits = 48;
constexpr int kSideBits = 4 * (kSideSumBits + kSideProductBits);
constexpr int kSideDepth = 4 * kMostPlanes;

struct SideRow {
  ap_uint<kSideBits> row;
  bool counts;  // or it only ends the frame
  bool last;    // of the frame
};

// A word of these, as sums hands it to report.
struct SumWord {
  Word word;
  bool last;  // of the report
};

// What report needs to know of a frame after its results.
struct Summary {
  ap_uint<32> saturations;
  ap_uint<31> largest;
};
