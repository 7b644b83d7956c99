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
  bool single;  // limit == 0
  bool twice;   // limit == 1
  bool summed;  // belongs to the reduction, or to the plane

  void set(const Word& word, bool is_summed) {
    #pragma HLS INLINE
    limit = level::Trips::of(word);
    dy = level::Dy::of(word);
    dx = level::Dx::of(word);
    dxa = level::Dxa::of(word);
    dwa = level::Dwa::of(word);
    single = limit == 0;
    twice = limit == 1;
    summed = is_summed;
  }
};

// The seven counters of the nest and the four positions that move with them.
//
// The flags close the loop, not the comparisons: those of an iteration are made in the one before.
struct LoopNest {
  ap_uint<12> left[kLevels];  // trips to go
  bool one_left[kLevels];     // left == 1
  bool ended[kLevels];        // left == 0
  bool wraps[kLevels];        // ended, and so are all loops inside this one
  bool turns[kLevels];        // not ended, but all inside this one are; true of one loop at most
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
      one_left[i] = levels[i].twice;
      ended[i] = levels[i].single;
    }
    find_turn();
    iy = y0;
    ix = x0;
    xa = xa0;
    wa = 0;
  }

  // Go to the next iteration. `sum_ends` and `nest_ends` tell whether this one was a last one.
  void step(const Level levels[kLevels], bool& sum_ends, bool& nest_ends) {
    #pragma HLS INLINE
    sum_ends = true;
    nest_ends = wraps[kLevels - 1];
    ap_int<10> dy = 0;
    ap_int<10> dx = 0;
    ap_int<16> dxa = 0;
    ap_int<16> dwa = 0;
  levels:
    for (int i = 0; i < kLevels; ++i) {
      #pragma HLS UNROLL
      dy = turns[i] ? levels[i].dy : dy;
      dx = turns[i] ? levels[i].dx : dx;
      dxa = turns[i] ? levels[i].dxa : dxa;
      dwa = turns[i] ? levels[i].dwa : dwa;
      sum_ends = sum_ends && (ended[i] || !levels[i].summed);
      const bool two_left = left[i] == 2;
      ended[i] = wraps[i] ? levels[i].single : turns[i] ? one_left[i] : ended[i];
      one_left[i] = wraps[i] ? levels[i].twice : turns[i] ? two_left : one_left[i];
      left[i] = wraps[i] ? levels[i].limit : turns[i] ? ap_uint<12>(left[i] - 1) : left[i];
    }
    find_turn();
    iy += dy;
    ix += dx;
    xa += dxa;
    wa += dwa;
  }

  void find_turn() {
    #pragma HLS INLINE
    bool inner = true;  // all loops inside this one are at their end
  levels:
    for (int i = 0; i < kLevels; ++i) {
      #pragma HLS UNROLL
      wraps[i] = inner && ended[i];
      turns[i] = inner && !ended[i];
      inner = wraps[i];
    }
  }
};
