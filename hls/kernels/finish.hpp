// SPDX-License-Identifier: Apache-2.0
// Rounding, clamping and saturation of four values, and what is reported of them. Spec:
// numerics.frames.compute.
#pragma once

#include "messages.hpp"
#include "round_shift.hpp"

// How the values of a frame are finished.
struct FinishSettings {
  bool relu;
  bool capped;
  ap_uint<32> ceiling;
  ap_int<33> low;  // of the kind
  ap_int<33> high;

  void set(const StoreCommand& command) {
    #pragma HLS INLINE
    relu = command.relu;
    capped = command.ceiling != 0;
    ceiling = command.ceiling;
    const ap_uint<3> kind = command.result;
    high = kind == kUint8 ? 0xFF : kind == kInt8 ? 0x7F : kind == kInt16 ? 0x7FFF : 0x7FFFFFFF;
    low = kind == kUint8 ? ap_int<33>(0) : ap_int<33>(~high);
  }
};

// Four finished values.
struct Finished {
  ap_int<32> value[4];
  ap_uint<4> clamped;   // which ones did not fit
  ap_uint<31> largest;  // magnitude before they were made to, at most that of int32

  void take(const FinishSettings& how, const RoundShift<kSumBits> shifted[4], ap_uint<4> closed) {
    #pragma HLS INLINE
    ap_uint<31> magnitudes[4];
  lanes:
    for (int i = 0; i < 4; ++i) {
      #pragma HLS UNROLL
      const ap_int<kSumBits> rounded = shifted[i].rounded();
      // Rounding takes no sum below zero above it, so the sign is known before.
      const bool zero = closed[i] || (how.relu && shifted[i].negative());
      const bool above = how.capped && rounded > ap_int<kSumBits>(how.ceiling);
      const ap_int<kSumBits> capped = above ? ap_int<kSumBits>(how.ceiling) : rounded;
      const ap_int<kSumBits> whole = zero ? ap_int<kSumBits>(0) : capped;
      const bool under = whole < how.low;
      const bool over = whole > how.high;
      value[i] = under ? how.low : over ? how.high : ap_int<33>(whole);
      clamped[i] = under || over;
      // That of `whole`, without waiting for the ceiling where it is negative.
      const ap_int<kSumBits> either = rounded < 0 ? ap_int<kSumBits>(-rounded) : capped;
      const ap_uint<kSumBits> magnitude = zero ? ap_int<kSumBits>(0) : either;
      magnitudes[i] = magnitude >> 31 ? ap_uint<31>(0x7FFFFFFF) : ap_uint<31>(magnitude);
    }
    const ap_uint<31> first = magnitudes[0] > magnitudes[1] ? magnitudes[0] : magnitudes[1];
    const ap_uint<31> second = magnitudes[2] > magnitudes[3] ? magnitudes[2] : magnitudes[3];
    largest = first > second ? first : second;
  }
};

// Sums of a plane's values and of their products, of four lanes at a time, in turn.
struct PlaneSums {
  ap_int<kSideSumBits> sums[4][4];
  ap_int<kSideProductBits> products[4][4];
  ap_uint<18> left;   // quads of the plane to go, less one
  ap_uint<18> whole;  // quads of a plane, less one
  ap_uint<2> quarter;
  bool first;  // the plane's first pixel

  void start(ap_uint<16> pixels) {
    #pragma HLS INLINE
    whole = (ap_uint<18>(pixels) << 2) - 1;
    left = whole;
    quarter = 0;
    first = true;
  }
  // Add a quad, and its products with the others or its squares; the row of sums that ends with it is the
  // result.
  ap_uint<kSideBits> add(const ap_int<32> value[4], const ap_int<16> other[4], bool others) {
    #pragma HLS INLINE
    ap_uint<kSideBits> row = 0;
  lanes:
    for (int i = 0; i < 4; ++i) {
      #pragma HLS UNROLL
      const ap_int<17> short_value = value[i];
      const ap_int<kSideSumBits> sum = (first ? ap_int<kSideSumBits>(0) : sums[0][i]) + short_value;
      const ap_int<17> factor = others ? ap_int<17>(other[i]) : short_value;
      const ap_int<kSideProductBits> product =
          (first ? ap_int<kSideProductBits>(0) : products[0][i]) + ap_int<33>(short_value * factor);
    turns:
      for (int k = 0; k < 3; ++k) {
        #pragma HLS UNROLL
        sums[k][i] = sums[k + 1][i];
        products[k][i] = products[k + 1][i];
      }
      sums[3][i] = sum;
      products[3][i] = product;
      row(kSideSumBits * i + kSideSumBits - 1, kSideSumBits * i) = sum;
      constexpr int kFirst = 4 * kSideSumBits;
      row(kFirst + kSideProductBits * i + kSideProductBits - 1, kFirst + kSideProductBits * i) = product;
    }
    return row;
  }
  // Whether the plane's last pixel is being added.
  bool ending() const {
    #pragma HLS INLINE
    return left < 4;
  }
  void step() {
    #pragma HLS INLINE
    const bool ends = left == 0;
    first = ends || (first && quarter != 3);
    left = ends ? whole : ap_uint<18>(left - 1);
    quarter += 1;
  }
};
