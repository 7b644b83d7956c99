// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "elements.hpp"
#include "factors.hpp"
#include "load.hpp"
#include "loop_nest.hpp"
#include "messages.hpp"

constexpr int kMaxShift = 63;  // leaves 0 of any sum, as longer shifts do

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

// What the processes behind compute are told of a frame.
inline StoreCommand store_command(const Word plan[kPlanWords]) {
  #pragma HLS INLINE
  const Word command = plan[0];
  const Word options = plan[header::Result::word];
  const Word verdict = plan[kHeaderWords];
  StoreCommand told;
  told.mode = header::Mode::of(command);
  told.status = verdict(7, 0);
  told.nonce = header::Nonce::of(plan[header::Nonce::word]);
  const ap_uint<8> shift = header::Shift::of(command);
  told.shift = shift < kMaxShift ? shift : ap_uint<8>(kMaxShift);
  told.result = header::Result::of(options);
  told.ceiling = header::Ceiling::of(plan[header::Ceiling::word]);
  told.plane = header::Plane::of(options);
  told.planes = header::Planes::of(options);
  told.words = verdict(63, 32);
  told.read = plan[kHeaderWords + 1];
  told.relu = header::Relu::of(options);
  const bool bytes =
      told.outer() ? header::WKind::of(options) != kInt16 : header::XKind::of(options) != kInt16;
  told.pairs = told.mode == kGradMsb || ((told.dot() || told.outer()) && bytes);
  told.times4 = told.mode == kGradMsb && header::WKind::of(options) == kInt16;
  told.last = !told.good() || !header::More::of(options);
  return told;
}

// How compute reads its buffers.
struct Addressing {
  bool elements;
  bool outer;
  bool pairs;
  bool half_vectors;  // wa counts half pixels of 8 bits

  ap_uint<16> x_at(ap_uint<16> xa) const {
    #pragma HLS INLINE
    return elements ? ap_uint<16>(xa >> 1) : xa;
  }
  // Which vector of gy or v.
  ap_uint<16> vector(ap_uint<16> wa) const {
    #pragma HLS INLINE
    return half_vectors ? ap_uint<16>(wa >> 1) : wa;
  }
  // Its row, or that of the weights.
  template <int kBank>
  ap_uint<16> w_at(ap_uint<16> wa) const {
    #pragma HLS INLINE
    const ap_uint<16> of_vector = vector(wa) >> kBank;
    const ap_uint<16> of_weights = pairs ? wa : ap_uint<16>(wa >> 1);
    return outer || elements ? of_vector : of_weights;
  }
};

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

// Run one frame: each iteration multiplies one x vector with the weights of all output lanes (dot modes), or
// with one vector of output gradients or two (outer modes), on kIcLanes * kOcLanes multipliers, two products
// each where both factors are narrow; or it computes a quarter of a pixel. One iteration per cycle.
//
//   kIcLanes, kOcLanes  lanes of the engine
//   kXDepth, kWDepth    rows of the buffers, of w_buf for kOcLanes vectors
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, int kWrapBits>
void compute(const ap_uint<16 * kIcLanes> x_buf[kXDepth],
             const ap_uint<8 * kIcLanes> w_buf[2 * kOcLanes][kWDepth / 2],
             const ap_uint<kPixelLanes> mask_buf[kXDepth],
             const ap_uint<kCoefficientBits> coefficients[kCoefficientDepth], hls::stream<Word>& plan_in,
             hls::stream<StoreCommand>& command_out, hls::stream<Bundle<kIcLanes, kOcLanes>>& bundles_out,
             hls::stream<Wraps<kIcLanes, kOcLanes, kWrapBits>>& wraps_out,
             hls::stream<Elements>& elements_out, hls::stream<ap_uint<32>>& iterations_out) {
  constexpr int kXBits = log2_ceil(kXDepth);
  constexpr int kBank = log2_ceil(2 * kOcLanes);
  constexpr int kRowBits = log2_ceil(kWDepth / 2);
  constexpr bool kResident = kIcLanes == kPixelLanes;

  Word plan[kPlanWords];
  #pragma HLS ARRAY_PARTITION variable=plan complete
  read_plan(plan_in, plan);
  const StoreCommand command = store_command(plan);
  command_out.write(command);

  const Word options = plan[header::XBits::word];
  const Word window = plan[header::H::word];
  const bool outer = command.outer();
  const bool pairs = command.pairs;
  const bool elements = kResident && command.elements();
  const bool msb = command.mode == kGradMsb;
  ElementSettings how;
  how.set(plan[0], options);
  HighBits high_bits;
  high_bits.set(msb ? header::XBits::of(options) : ap_uint<4>(8),
                msb ? header::GBits::of(options) : ap_uint<4>(8), header::XKind::of(options) == kInt8,
                header::WKind::of(options) != kInt16);
  const Addressing addressing = {elements, outer, pairs, elements && !how.v16};
  const ap_int<17> height = header::H::of(window);
  const ap_int<17> width = header::W::of(window);
  Level levels[kLevels];
  #pragma HLS ARRAY_PARTITION variable=levels complete
levels:
  for (int i = 0; i < kLevels; ++i) {
    #pragma HLS UNROLL
    levels[i].set(plan[kFirstLevel + i], header::Depth::of(options) > i);
  }
  LoopNest nest;
  nest.start(levels, header::Y0::of(window), header::X0::of(window),
             header::Xa0::of(plan[header::Xa0::word]));
  ElementPosition position;
  position.start();

  ap_int<kAccBits> acc[kOcLanes][kIcLanes];
  #pragma HLS ARRAY_PARTITION variable=acc complete
  WrapCount<kWrapBits> counts[kOcLanes][kIcLanes];
  #pragma HLS ARRAY_PARTITION variable=counts complete
  ap_uint<32> iterations = 0;
  bool begins = true;     // a reduction begins with this iteration
  bool began = true;      // one began with the iteration before
  bool pending = false;   // acc holds a finished reduction
  bool counted = false;   // counts hold those of a finished reduction of pairs
  bool flushing = false;  // all iterations are done, this one only sends the last bundle
  bool ending = false;    // and this one only its counts
  bool done = !command.good() || command.mode == kIdentify;
iterations:
  while (!done) {
    #pragma HLS PIPELINE II=1
    const bool inside = nest.iy >= 0 && nest.iy < height && nest.ix >= 0 && nest.ix < width;
    const bool odd = nest.iy[0] || nest.ix[0];
    const ap_uint<kXBits> x_at = addressing.x_at(nest.xa);
    const ap_uint<kRowBits> w_at = addressing.template w_at<kBank>(nest.wa);
    const ap_uint<kBank> bank = addressing.vector(nest.wa);
    const bool second = !pairs && nest.wa[0];  // of two rows of weights that share banks
    const ap_uint<16 * kIcLanes> x = x_buf[x_at];
    WRow<kIcLanes, kOcLanes> w;
  banks:
    for (int i = 0; i < 2 * kOcLanes; ++i) {
      #pragma HLS UNROLL
      w.all[i] = w_buf[i][w_at];
    }
    w.pick(bank);
    const ap_uint<log2_ceil(kCoefficientDepth)> c_at = (position.row << 2) | ap_uint<8>(position.quarter);
    const ap_uint<kXBits> m_at = position.pixel;
    const ap_uint<kCoefficientBits> row = coefficients[c_at];
    const ap_uint<kPixelLanes> mask = mask_buf[m_at];

    Factors<kIcLanes, kOcLanes> factors;
    factors.take_x(x, inside, outer && pairs, high_bits);
    factors.take_gradients(w, pairs, high_bits);
    Wraps<kIcLanes, kOcLanes, kWrapBits> wraps;
    Bundle<kIcLanes, kOcLanes> bundle;
    bundle.last = flushing;
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
    if (pending) {
      bundles_out.write(bundle);
    }
    if (counted) {
      wraps_out.write(wraps);
    }
    bool sum_ends, nest_ends;
    nest.step(levels, sum_ends, nest_ends);
    const bool running = !flushing && !ending;
    if (elements && running) {
      Quarter quarter;
      quarter.take(how, position.quarter, x, (ap_uint<256>(w.odd) << 128) | ap_uint<256>(w.even), w.one, mask,
                   odd);
      elements_out.write(compute_elements(how, quarter, row, nest_ends));
    }
    position.step(sum_ends, how.rows);
    iterations += running;
    done = ending;
    began = begins;
    begins = sum_ends;
    counted = pairs && pending;
    pending = sum_ends && running && !elements;
    ending = flushing;
    flushing = nest_ends && running;
  }
  iterations_out.write(iterations);
}
