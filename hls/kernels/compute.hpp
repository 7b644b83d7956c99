// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "elements.hpp"
#include "load.hpp"
#include "loop_nest.hpp"
#include "messages.hpp"
#include "multiply.hpp"
#include "plan.hpp"

// How far a frame is: the last reduction is sent one iteration after the last, its counts one later still.
struct Phase {
  bool begins;    // a reduction begins with this iteration
  bool began;     // one began with the iteration before
  bool pending;   // acc holds a finished reduction
  bool counted;   // counts hold those of a finished reduction
  bool flushing;  // all iterations are done, this one only sends the last bundle
  bool ending;    // and this one only its counts
  bool done;

  void start(bool nothing) {
    #pragma HLS INLINE
    begins = true;
    began = true;
    pending = false;
    counted = false;
    flushing = false;
    ending = false;
    done = nothing;
  }
  bool running() const {
    #pragma HLS INLINE
    return !flushing && !ending;
  }
  template <typename Bundle, typename Wraps>
  void send(const Bundle& bundle, const Wraps& wraps, hls::stream<Bundle>& bundles_out,
            hls::stream<Wraps>& wraps_out) const {
    #pragma HLS INLINE
    if (pending) {
      bundles_out.write(bundle);
    }
    if (counted) {
      wraps_out.write(wraps);
    }
  }
  void step(bool elements, bool sum_ends, bool nest_ends) {
    #pragma HLS INLINE
    const bool ran = running();
    done = ending;
    began = begins;
    begins = sum_ends;
    counted = pending;
    pending = sum_ends && ran && !elements;
    ending = flushing;
    flushing = nest_ends && ran;
  }
};

// What one iteration reads of the buffers.
template <int kIcLanes, int kOcLanes>
struct Operands {
  ap_uint<16 * kIcLanes> x;
  WRow<kIcLanes, kOcLanes> w;
  ap_uint<kPixelLanes> mask;
  ap_uint<kCoefficientBits> coefficients;

  template <int kXDepth, int kRows>
  void read(const ComputeSettings& settings, const LoopNest& nest, const ElementPosition& position,
            const ap_uint<16 * kIcLanes> x_buf[kXDepth],
            const ap_uint<8 * kIcLanes> w_buf[2 * kOcLanes][kRows],
            const ap_uint<kPixelLanes> mask_buf[kXDepth],
            const ap_uint<kCoefficientBits> coefficient_buf[kCoefficientDepth]) {
    #pragma HLS INLINE
    constexpr int kBank = log2_ceil(2 * kOcLanes);
    const ap_uint<log2_ceil(kXDepth)> x_at = settings.addressing.x_at(nest.xa);
    const ap_uint<log2_ceil(kXDepth)> mask_at = position.pixel;
    const ap_uint<log2_ceil(kRows)> w_at = settings.addressing.template w_at<kBank>(nest.wa);
    x = x_buf[x_at];
    mask = mask_buf[mask_at];
    coefficients = coefficient_buf[position.coefficient_row()];
  banks:
    for (int i = 0; i < 2 * kOcLanes; ++i) {
      #pragma HLS UNROLL
      w.all[i] = w_buf[i][w_at];
    }
    w.pick(ap_uint<kBank>(settings.addressing.vector(nest.wa)));
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
             const ap_uint<kCoefficientBits> coefficient_buf[kCoefficientDepth], hls::stream<Word>& plan_in,
             hls::stream<StoreCommand>& command_out, hls::stream<Bundle<kIcLanes, kOcLanes>>& bundles_out,
             hls::stream<Wraps<kIcLanes, kOcLanes, kWrapBits>>& wraps_out,
             hls::stream<Elements>& elements_out, hls::stream<ap_uint<32>>& iterations_out) {
  Word plan[kPlanWords];
  #pragma HLS ARRAY_PARTITION variable=plan complete
  const bool computes = read_plan(plan_in, plan);
  const StoreCommand command = store_command(plan);
  command_out.write(command);
  ComputeSettings settings;
  settings.set(plan, command);
  Level levels[kLevels];
  #pragma HLS ARRAY_PARTITION variable=levels complete
  LoopNest nest;
  start_loops(plan, levels, nest);
  ElementPosition position;
  position.start();
  Phase phase;
  phase.start(!computes);

  ap_int<kAccBits> acc[kOcLanes][kIcLanes];
  #pragma HLS ARRAY_PARTITION variable=acc complete
  WrapCount<kWrapBits> counts[kOcLanes][kIcLanes];
  #pragma HLS ARRAY_PARTITION variable=counts complete
  ap_uint<32> iterations = 0;
iterations:
  while (!phase.done) {
    #pragma HLS PIPELINE II=1
    Operands<kIcLanes, kOcLanes> from;
    from.template read<kXDepth, kWDepth / 2>(settings, nest, position, x_buf, w_buf, mask_buf,
                                             coefficient_buf);
    Factors<kIcLanes, kOcLanes> factors;
    factors.take_x(from.x, settings.inside(nest), settings.outer && settings.pairs, settings.high_bits);
    factors.take_gradients(from.w, settings.pairs, settings.high_bits);
    const bool second = !settings.pairs && nest.wa[0];  // of two rows of weights that share banks
    Bundle<kIcLanes, kOcLanes> bundle;
    Wraps<kIcLanes, kOcLanes, kWrapBits> wraps;
    bundle.last = phase.flushing;
    multiply<kIcLanes, kOcLanes, kWrapBits>(factors, from.w, settings.outer, settings.pairs, second,
                                            phase.begins, phase.began, acc, counts, bundle, wraps);
    phase.send(bundle, wraps, bundles_out, wraps_out);
    const bool odd = nest.iy[0] || nest.ix[0];
    const ap_uint<8> dither = position.dither(settings.how, nest.iy, nest.ix);
    bool sum_ends, nest_ends;
    nest.step(levels, sum_ends, nest_ends);
    if (settings.elements && phase.running()) {
      Quarter quarter;
      quarter.take(settings.how, position.quarter, from.x, from.w.even, from.w.odd, from.w.one, from.mask,
                   odd);
      elements_out.write(compute_elements(settings.how, quarter, from.coefficients, dither, nest_ends));
    }
    position.step(sum_ends, settings.how.rows);
    iterations += phase.running();
    phase.step(settings.elements, sum_ends, nest_ends);
  }
  iterations_out.write(iterations);
}
