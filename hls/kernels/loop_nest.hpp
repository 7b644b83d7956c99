// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "frame.hpp"

// One loop of the nest. The steps are net: they take back what the inner loops have moved.
struct Level {
  ap_uint<12> limit;  // trips - 1
  ap_int<10> dy;
  ap_int<10> dx;
  ap_int<16> dxa;
  ap_int<16> dwa;
  bool summed;  // belongs to the reduction, or to the plane

  void set(const Word& word, bool is_summed) {
    #pragma HLS INLINE
    limit = level::Trips::of(word);
    dy = level::Dy::of(word);
    dx = level::Dx::of(word);
    dxa = level::Dxa::of(word);
    dwa = level::Dwa::of(word);
    summed = is_summed;
  }
};

// The seven counters of the nest and the four positions that move with them.
//
// The flags close the loop, not the comparisons: `ended` is kept beside each counter.
struct LoopNest {
  ap_uint<12> left[kLevels];  // trips to go
  bool ended[kLevels];        // left == 0
  ap_int<16> iy;
  ap_int<16> ix;
  ap_uint<16> xa;
  ap_uint<16> wa;

  void start(const Level levels[kLevels], ap_int<16> y0, ap_int<16> x0, ap_int<16> xa0) {
    #pragma HLS INLINE
  levels:
    for (int i = 0; i < kLevels; ++i) {
      #pragma HLS UNROLL
      left[i] = levels[i].limit;
      ended[i] = levels[i].limit == 0;
    }
    iy = y0;
    ix = x0;
    xa = xa0;
    wa = 0;
  }

  // Go to the next iteration. `sum_ends` and `nest_ends` tell whether this one was a last one.
  void step(const Level levels[kLevels], bool& sum_ends, bool& nest_ends) {
    #pragma HLS INLINE
    bool inner = true;  // all loops inside this one are at their end
    bool sum_inner = true;
    ap_int<10> dy = 0;
    ap_int<10> dx = 0;
    ap_int<16> dxa = 0;
    ap_int<16> dwa = 0;
  levels:
    for (int i = 0; i < kLevels; ++i) {
      #pragma HLS UNROLL
      const bool turns = inner && !ended[i];
      const bool wraps = inner && ended[i];
      dy = turns ? levels[i].dy : dy;
      dx = turns ? levels[i].dx : dx;
      dxa = turns ? levels[i].dxa : dxa;
      dwa = turns ? levels[i].dwa : dwa;
      sum_inner = sum_inner && (ended[i] || !levels[i].summed);
      const bool empty = levels[i].limit == 0;
      const bool one_left = left[i] == 1;
      ended[i] = wraps ? empty : turns ? one_left : ended[i];
      left[i] = wraps ? levels[i].limit : turns ? ap_uint<12>(left[i] - 1) : left[i];
      inner = wraps;
    }
    iy += dy;
    ix += dx;
    xa += dxa;
    wa += dwa;
    sum_ends = sum_inner;
    nest_ends = inner;
  }
};
