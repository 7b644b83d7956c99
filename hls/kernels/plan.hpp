// SPDX-License-Identifier: Apache-2.0
// What a frame's header tells compute, and the processes behind it.
#pragma once

#include "elements.hpp"
#include "factors.hpp"
#include "loop_nest.hpp"
#include "messages.hpp"

constexpr int kMaxShift = 63;  // leaves 0 of any sum, as longer shifts do

// Read the plan into registers that shift: word 0 arrives first. One bit ends the loop, not a comparison.
// Returns whether there is something to compute: the last word has no part in it, so this rests on registers.
inline bool read_plan(hls::stream<Word>& plan_in, Word plan[kPlanWords]) {
  #pragma HLS INLINE
  bool identify = false;
  bool good = false;
  bool computes = false;
plan:
  for (ap_uint<kPlanWords + 1> turn = 1; !turn[kPlanWords]; turn <<= 1) {
    #pragma HLS PIPELINE II=1
  registers:
    for (int k = 0; k < kPlanWords - 1; ++k) {
      #pragma HLS UNROLL
      plan[k] = plan[k + 1];
    }
    computes = good && !identify;
    const Word word = plan_in.read();
    plan[kPlanWords - 1] = word;
    identify = turn[header::Mode::word] ? header::Mode::of(word) == kIdentify : identify;
    good = turn[kHeaderWords] ? word(7, 0) == kStatusOk : good;
  }
  return computes;
}

// What the processes behind compute need to know of a frame.
inline StoreCommand store_command(const Word plan[kPlanWords]) {
  #pragma HLS INLINE
  const Word command = plan[0];
  const Word options = plan[header::Result::word];
  const Word verdict = plan[kHeaderWords];
  StoreCommand sent;
  sent.mode = header::Mode::of(command);
  sent.status = verdict(7, 0);
  sent.nonce = header::Nonce::of(plan[header::Nonce::word]);
  const ap_uint<8> shift = header::Shift::of(command);
  sent.shift = shift < kMaxShift ? shift : ap_uint<8>(kMaxShift);
  sent.result = header::Result::of(options);
  sent.ceiling = header::Ceiling::of(plan[header::Ceiling::word]);
  sent.plane = header::Plane::of(options);
  sent.planes = header::Planes::of(options);
  sent.words = verdict(63, 32);
  sent.read = plan[kHeaderWords + 1];
  sent.relu = header::Relu::of(options);
  const bool bytes =
      sent.outer() ? header::WKind::of(options) != kInt16 : header::XKind::of(options) != kInt16;
  sent.pairs = sent.mode == kGradMsb || ((sent.dot() || sent.outer()) && bytes);
  sent.times4 = sent.mode == kGradMsb && header::WKind::of(options) == kInt16;
  sent.last = !sent.good() || !header::More::of(options);
  sent.holds = sent.good() && header::Holds::of(options);
  sent.computes = sent.good() && sent.mode != kIdentify;
  return sent;
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

// What compute itself needs of the plan, but for the loops.
struct ComputeSettings {
  bool outer;
  bool pairs;
  bool elements;
  ElementSettings how;
  HighBits high_bits;
  Addressing addressing;
  ap_int<17> height;
  ap_int<17> width;

  void set(const Word plan[kPlanWords], const StoreCommand& command) {
    #pragma HLS INLINE
    const Word options = plan[header::XBits::word];
    const bool msb = command.mode == kGradMsb;
    outer = command.outer();
    pairs = command.pairs;
    elements = command.elements();
    how.set(plan[0], options);
    high_bits.set(msb ? header::XBits::of(options) : ap_uint<4>(8),
                  msb ? header::GBits::of(options) : ap_uint<4>(8), header::XKind::of(options) == kInt8,
                  header::WKind::of(options) != kInt16);
    addressing = {elements, outer, pairs, elements && !how.v16};
    height = header::H::of(plan[header::H::word]);
    width = header::W::of(plan[header::W::word]);
  }
  bool inside(const LoopNest& nest) const {
    #pragma HLS INLINE
    return nest.iy >= 0 && nest.iy < height && nest.ix >= 0 && nest.ix < width;
  }
};

// The loops of a plan, and the nest at their start.
inline void start_loops(const Word plan[kPlanWords], Level levels[kLevels], LoopNest& nest) {
  #pragma HLS INLINE
  const ap_uint<4> depth = header::Depth::of(plan[header::Depth::word]);
levels:
  for (int i = 0; i < kLevels; ++i) {
    #pragma HLS UNROLL
    levels[i].set(plan[kFirstLevel + i], depth > i);
  }
  const Word window = plan[header::Y0::word];
  nest.start(levels, header::Y0::of(window), header::X0::of(window),
             header::Xa0::of(plan[header::Xa0::word]));
}
