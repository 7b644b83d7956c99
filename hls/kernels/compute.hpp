// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "frame.hpp"
#include "messages.hpp"
#include "pick.hpp"

constexpr int kMaxShift = 63;  // leaves 0 of any sum, as longer shifts do

// One loop of the nest. The steps are net: they take back what the inner loops have moved.
struct Level {
  ap_uint<12> limit;  // trips - 1
  ap_int<10> dy;
  ap_int<10> dx;
  ap_int<16> dxa;
  ap_int<16> dwa;
  bool summed;  // belongs to the reduction
};

// The seven counters of the nest and the four positions that move with them.
//
// The flags close the loop, not the comparisons: `ended` is kept beside each counter.
struct Walk {
  ap_uint<12> left[kLevels];  // trips to go
  bool ended[kLevels];        // left == 0
  ap_int<16> iy;
  ap_int<16> ix;
  ap_uint<16> xa;
  ap_uint<16> wa;

  void start(const Level levels[kLevels], ap_int<16> y0, ap_int<16> x0) {
    #pragma HLS INLINE
  levels:
    for (int i = 0; i < kLevels; ++i) {
      #pragma HLS UNROLL
      left[i] = levels[i].limit;
      ended[i] = levels[i].limit == 0;
    }
    iy = y0;
    ix = x0;
    xa = 0;
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

// Read the plan into registers that shift: word 0 arrives first.
inline void read_plan(hls::stream<Word>& plan_in, Word plan[kPlanWords]) {
  #pragma HLS INLINE
plan:
  for (int i = 0; i < kPlanWords; ++i) {
    #pragma HLS PIPELINE II=1
  registers:
    for (int k = 0; k < kPlanWords - 1; ++k) {
      #pragma HLS UNROLL
      plan[k] = plan[k + 1];
    }
    plan[kPlanWords - 1] = plan_in.read();
  }
}

// Run one frame: each iteration multiplies one x vector with the weights of all output lanes (dot modes), or
// with one vector of output gradients (outer mode), on kIcLanes * kOcLanes multipliers. One iteration per
// cycle.
//
//   kIcLanes, kOcLanes  lanes of the engine
//   kXDepth, kWDepth    rows of the buffers
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth>
void compute(const ap_uint<16 * kIcLanes> x_buf[kXDepth],
             const ap_uint<8 * kIcLanes> w_buf[kOcLanes][kWDepth], hls::stream<Word>& plan_in,
             hls::stream<Order>& order_out, hls::stream<Bundle<kIcLanes, kOcLanes>>& bundles_out,
             hls::stream<ap_uint<32>>& iterations_out) {
  constexpr int kXBits = log2_ceil(kXDepth);
  constexpr int kWBits = log2_ceil(kWDepth);
  constexpr int kBank = log2_ceil(kOcLanes);

  Word plan[kPlanWords];
  #pragma HLS ARRAY_PARTITION variable=plan complete
  read_plan(plan_in, plan);

  Order order;
  order.mode = plan[0](31, 24);
  order.tag = plan[3](15, 0);
  const ap_uint<8> shift = plan[0](63, 56);
  order.shift = shift < kMaxShift ? shift : ap_uint<8>(kMaxShift);
  order.wide = plan[0][51];
  order.status = plan[kHeaderWords](7, 0);
  order.words = plan[kHeaderWords](63, 32);
  order.last = order.status != kOk || !plan[0][48];
  order_out.write(order);

  const bool outer = order.mode == kGradWeight;
  const ap_int<17> height = plan[2](15, 0);
  const ap_int<17> width = plan[2](31, 16);
  Level levels[kLevels];
  #pragma HLS ARRAY_PARTITION variable=levels complete
levels:
  for (int i = 0; i < kLevels; ++i) {
    #pragma HLS UNROLL
    const Word word = plan[kFirstLevel + i];
    levels[i].limit = word(11, 0);
    levels[i].dy = word(21, 12);
    levels[i].dx = word(31, 22);
    levels[i].dxa = word(47, 32);
    levels[i].dwa = word(63, 48);
    levels[i].summed = plan[3](19, 16) > i;
  }
  Walk walk;
  walk.start(levels, plan[2](47, 32), plan[2](63, 48));

  ap_int<kAccBits> acc[kOcLanes][kIcLanes];
  #pragma HLS ARRAY_PARTITION variable=acc complete
  ap_uint<32> iterations = 0;
  bool begins = true;     // a reduction begins with this iteration
  bool pending = false;   // acc holds a finished reduction
  bool flushing = false;  // all iterations are done, this one only sends the last bundle
  bool done = order.status != kOk || order.mode == kIdentify;
iterations:
  while (!done) {
    #pragma HLS PIPELINE II=1
    const bool inside = walk.iy >= 0 && walk.iy < height && walk.ix >= 0 && walk.ix < width;
    const ap_uint<kXBits> x_at = walk.xa;
    const ap_uint<kWBits> w_at = outer ? ap_uint<16>(walk.wa >> kBank) : walk.wa;
    const ap_uint<kBank> bank = walk.wa;
    const ap_uint<16 * kIcLanes> x = x_buf[x_at];
    ap_uint<8 * kIcLanes> w[kOcLanes];
    ap_uint<8 * kIcLanes> choices[kOcLanes];
  banks:
    for (int o = 0; o < kOcLanes; ++o) {
      #pragma HLS UNROLL
      w[o] = w_buf[o][w_at];
      choices[o] = w[o];
    }
    const ap_uint<8 * kIcLanes> gy = pick<kOcLanes>(choices, bank);

    Bundle<kIcLanes, kOcLanes> bundle;
    bundle.last = flushing;
  oc_lanes:
    for (int o = 0; o < kOcLanes; ++o) {
      #pragma HLS UNROLL
      const ap_int<16> g = gy(16 * o + 15, 16 * o);
    ic_lanes:
      for (int c = 0; c < kIcLanes; ++c) {
        #pragma HLS UNROLL
        const ap_int<16> lane = x(16 * c + 15, 16 * c);
        const ap_int<8> weight = w[o](8 * c + 7, 8 * c);
        const ap_int<16> a = inside ? lane : ap_int<16>(0);
        const ap_int<16> b = outer ? g : ap_int<16>(weight);
        // Sent before it is overwritten: the DSP slice's output register needs no copy.
        bundle.acc[o * kIcLanes + c] = acc[o][c];
        acc[o][c] = (begins ? ap_int<kAccBits>(0) : acc[o][c]) + a * b;
      }
    }
    if (pending) {
      bundles_out.write(bundle);
    }
    iterations += flushing ? 0 : 1;
    done = flushing;
    bool sum_ends, nest_ends;
    walk.step(levels, sum_ends, nest_ends);
    begins = sum_ends;
    pending = sum_ends;
    flushing = nest_ends;
  }
  iterations_out.write(iterations);
}
