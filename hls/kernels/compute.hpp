// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "frame.hpp"
#include "messages.hpp"
#include "pick.hpp"
#include "round_shift.hpp"

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

// Two gy of grad_msb side by side: the port of a DSP slice. One bit more, since the lower may borrow.
using PairFactor = ap_int<kFieldBits + kGKept + 1>;

// The high bits of both operands of grad_msb. Fewer than the most stay at the top of their field, so that
// nothing is shifted by a variable: the sums are multiples of a power of two then.
struct HighBits {
  ap_int<9> x_half;
  ap_int<9> x_mask;
  ap_int<10> x_end;
  ap_int<16> g_half;
  ap_int<16> g_mask;

  void set(const Word& word, bool x_signed) {
    #pragma HLS INLINE
    const ap_uint<4> x_kept = word(39, 36);
    const ap_uint<4> g_kept = word(43, 40);
    x_half = ap_int<9>(128) >> x_kept;
    x_mask = ap_int<9>(-256) >> x_kept;
    x_end = x_signed ? 128 : 256;
    g_half = ap_uint<16>(0x8000) >> g_kept;
    g_mask = ap_int<17>(-0x10000) >> g_kept;
  }
  ap_int<16> of_x(ap_int<16> lane) const {
    #pragma HLS INLINE
    return keep_high<9>(lane, x_half, x_mask, x_end) >> (8 - kXKept);  // 8 bits, signed or not, have nine
  }
  PairFactor of_pair(ap_int<16> even, ap_int<16> odd) const {
    #pragma HLS INLINE
    constexpr int kCut = 16 - kGKept;
    const PairFactor high = keep_high<16>(odd, g_half, g_mask, 0x8000) >> kCut;
    return (high << kFieldBits) + ap_int<kGKept>(keep_high<16>(even, g_half, g_mask, 0x8000) >> kCut);
  }
};

// How often the low field of an accumulator has wrapped: up less down.
//
// A product is less than half the field. A field that falls by more than that has wrapped up, one that rises
// by more has wrapped down.
template <int kWrapBits>
struct WrapCount {
  ap_int<kWrapBits> wraps;
  ap_uint<kFieldBits> before;  // the field after the last but one product

  void follow(ap_uint<kFieldBits> now, bool first) {
    #pragma HLS INLINE
    const ap_int<kFieldBits + 1> fall = (first ? ap_uint<kFieldBits>(0) : before) - now;
    const ap_int<2> halves = fall >> (kFieldBits - 1);  // 1: wrapped up, -2: down
    const ap_int<2> step = halves[1] == halves[0] ? ap_int<2>(0) : ap_int<2>(halves | 1);
    wraps = (first ? ap_int<kWrapBits>(0) : wraps) + step;
    before = now;
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
// with one vector of output gradients (outer modes; grad_msb takes two), on kIcLanes * kOcLanes multipliers.
// One iteration per cycle.
//
//   kIcLanes, kOcLanes  lanes of the engine
//   kXDepth, kWDepth    rows of the buffers
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, int kWrapBits>
void compute(const ap_uint<16 * kIcLanes> x_buf[kXDepth],
             const ap_uint<8 * kIcLanes> w_buf[kOcLanes][kWDepth], hls::stream<Word>& plan_in,
             hls::stream<Order>& order_out, hls::stream<Bundle<kIcLanes, kOcLanes>>& bundles_out,
             hls::stream<Wraps<kIcLanes, kOcLanes, kWrapBits>>& wraps_out,
             hls::stream<ap_uint<32>>& iterations_out) {
  constexpr int kXBits = log2_ceil(kXDepth);
  constexpr int kWBits = log2_ceil(kWDepth);
  constexpr int kBank = log2_ceil(kOcLanes);

  Word plan[kPlanWords];
  #pragma HLS ARRAY_PARTITION variable=plan complete
  read_plan(plan_in, plan);

  Order order;
  order.mode = plan[0](31, 24);
  order.nonce = plan[3](kNonceBits - 1, 0);
  const ap_uint<8> shift = plan[0](63, 56);
  order.shift = shift < kMaxShift ? shift : ap_uint<8>(kMaxShift);
  order.wide = plan[0][51];
  order.status = plan[kHeaderWords](7, 0);
  order.words = plan[kHeaderWords](63, 32);
  order.last = order.status != kOk || !plan[0][48];
  order_out.write(order);

  const bool outer = order.outer();
  const bool msb = order.mode == kGradMsb;
  HighBits high_bits;
  high_bits.set(plan[3], plan[0][50]);
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
    levels[i].summed = plan[3](35, 32) > i;
  }
  Walk walk;
  walk.start(levels, plan[2](47, 32), plan[2](63, 48));

  ap_int<kAccBits> acc[kOcLanes][kIcLanes];
  #pragma HLS ARRAY_PARTITION variable=acc complete
  WrapCount<kWrapBits> counts[kOcLanes][kIcLanes];
  #pragma HLS ARRAY_PARTITION variable=counts complete
  ap_uint<32> iterations = 0;
  bool begins = true;     // a reduction begins with this iteration
  bool began = true;      // one began with the iteration before
  bool pending = false;   // acc holds a finished reduction
  bool counted = false;   // counts hold those of a finished reduction of grad_msb
  bool flushing = false;  // all iterations are done, this one only sends the last bundle
  bool ending = false;    // and this one only its counts
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
    ap_uint<8 * kIcLanes> evens[kOcLanes / 2];
    ap_uint<8 * kIcLanes> odds[kOcLanes / 2];
  banks:
    for (int o = 0; o < kOcLanes; ++o) {
      #pragma HLS UNROLL
      w[o] = w_buf[o][w_at];
      (o % 2 ? odds : evens)[o / 2] = w[o];
    }
    const ap_uint<kBank - 1> pair = bank >> 1;
    const ap_uint<8 * kIcLanes> gy_even = pick<kOcLanes / 2>(evens, pair);
    const ap_uint<8 * kIcLanes> gy_odd = pick<kOcLanes / 2>(odds, pair);
    const ap_uint<8 * kIcLanes> gy = bank[0] ? gy_odd : gy_even;

    ap_int<16> a[kIcLanes];
  x_lanes:
    for (int c = 0; c < kIcLanes; ++c) {
      #pragma HLS UNROLL
      const ap_int<16> lane = x(16 * c + 15, 16 * c);
      const ap_int<16> factor = msb ? high_bits.of_x(lane) : lane;
      a[c] = inside ? factor : ap_int<16>(0);
    }
    Wraps<kIcLanes, kOcLanes, kWrapBits> wraps;
    Bundle<kIcLanes, kOcLanes> bundle;
    bundle.last = flushing;
  oc_lanes:
    for (int o = 0; o < kOcLanes; ++o) {
      #pragma HLS UNROLL
      const ap_int<16> g = gy(16 * o + 15, 16 * o);
      const PairFactor two = high_bits.of_pair(gy_even(16 * o + 15, 16 * o), gy_odd(16 * o + 15, 16 * o));
      const PairFactor shared = msb ? two : PairFactor(g);
    ic_lanes:
      for (int c = 0; c < kIcLanes; ++c) {
        #pragma HLS UNROLL
        const ap_int<8> weight = w[o](8 * c + 7, 8 * c);
        const PairFactor b = outer ? shared : PairFactor(weight);
        // Sent before they are overwritten: the DSP slice's output register needs no copy.
        wraps[o * kIcLanes + c] = counts[o][c].wraps;
        bundle.acc[o * kIcLanes + c] = acc[o][c];
        if (msb) {
          counts[o][c].follow(acc[o][c](kFieldBits - 1, 0), began);
        }
        acc[o][c] = (begins ? ap_int<kAccBits>(0) : acc[o][c]) + a[c] * b;
      }
    }
    if (pending) {
      bundles_out.write(bundle);
    }
    if (counted) {
      wraps_out.write(wraps);
    }
    iterations += flushing || ending ? 0 : 1;
    done = ending;
    bool sum_ends, nest_ends;
    walk.step(levels, sum_ends, nest_ends);
    began = begins;
    begins = sum_ends;
    counted = msb && pending;
    pending = sum_ends && !flushing && !ending;
    ending = flushing;
    flushing = nest_ends && !flushing && !ending;
  }
  iterations_out.write(iterations);
}
