// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "finish.hpp"
#include "messages.hpp"

// What is counted of results.
struct Tally {
  ap_uint<32> saturations;
  ap_uint<31> largest;
  ap_uint<4> clamped;  // of the latest values, entered one cycle later
  ap_uint<31> magnitude;

  void start() {
    #pragma HLS INLINE
    saturations = 0;
    largest = 0;
    clamped = 0;
    magnitude = 0;
  }
  void enter(const Finished& finished, bool counts) {
    #pragma HLS INLINE
    const ap_uint<2> low = ap_uint<2>(clamped[0]) + ap_uint<2>(clamped[1]);
    const ap_uint<2> high = ap_uint<2>(clamped[2]) + ap_uint<2>(clamped[3]);
    saturations += ap_uint<3>(low) + ap_uint<3>(high);
    largest = magnitude > largest ? magnitude : largest;
    clamped = counts ? finished.clamped : ap_uint<4>(0);
    magnitude = counts ? finished.largest : ap_uint<31>(0);
  }
};

// Four values on their way out, from sums of lanes or from elements, also shifted: the shifter's result goes
// into a register, not into an adder.
struct Values {
  static constexpr int kHalf = 1 << (kFractionBits - 1);

  ap_int<kAccBits> value[4];
  RoundShift<kSumBits> shifted[4];
  ap_uint<kFractionBits> added[4];  // before rounding down
  ap_int<16> other[4];
  ap_uint<4> closed;
  bool last;

  void take(const Quad& quad) {
    #pragma HLS INLINE
  lanes:
    for (int i = 0; i < 4; ++i) {
      #pragma HLS UNROLL
      value[i] = quad.value[i];
      added[i] = kHalf;
      other[i] = 0;
    }
    closed = 0;
    last = quad.last;
  }
  void take(const Elements& elements) {
    #pragma HLS INLINE
  lanes:
    for (int i = 0; i < 4; ++i) {
      #pragma HLS UNROLL
      const ap_uint<8> phase = elements.phase + ap_uint<8>(i * kDitherChannel);
      value[i] = elements.value[i];
      const ap_uint<kFractionBits> dither = (ap_uint<kFractionBits>(phase) << 1) | 1;
      added[i] = elements.dithers ? dither : ap_uint<kFractionBits>(kHalf);
      other[i] = elements.other[i];
    }
    closed = elements.closed;
    last = elements.last;
  }
  void shift(ap_uint<6> bits) {
    #pragma HLS INLINE
  lanes:
    for (int i = 0; i < 4; ++i) {
      #pragma HLS UNROLL
      shifted[i].take(value[i], bits, added[i]);
    }
  }
};

// How four values become words: int8 half a word, int16 one, int32 two, int64 four; sums of outer modes one.
struct Format {
  bool outer, pairs, bytes, shorts, wide;
  ap_uint<2> last_turn;  // words of four values, less one

  void set(const StoreCommand& command) {
    #pragma HLS INLINE
    outer = command.outer();
    pairs = command.pairs;
    bytes = command.result <= kInt8;
    shorts = command.result == kInt16;
    wide = command.result == kInt64;
    last_turn = outer || bytes || shorts ? 0 : wide ? 3 : 1;
  }
  Word word(const ap_int<kAccBits> raw[4], const ap_int<32> value[4], ap_uint<32> kept,
            ap_uint<2> turn) const {
    #pragma HLS INLINE
    ap_int<kAccBits> choices[4];
  lanes:
    for (int i = 0; i < 4; ++i) {
      #pragma HLS UNROLL
      choices[i] = raw[i];
    }
    const ap_int<kAccBits> single = mux_tree<4>(choices, turn);
    const ap_int<64> whole = outer ? single : ap_int<kAccBits>(ap_int<kSumBits>(single));
    const ap_uint<32> even = turn[0] ? value[2] : value[0];
    const ap_uint<32> odd = turn[0] ? value[3] : value[1];
    const Word two = (Word(odd) << 32) | Word(even);
    const Word sums = (Word(ap_uint<32>(raw[1])) << 32) | Word(ap_uint<32>(raw[0]));
    const Word four = (Word(four_of<16>(value) >> 32) << 32) | Word(ap_uint<32>(four_of<16>(value)));
    const Word eight = (Word(four_of<8>(value)) << 32) | Word(kept);
    const Word unsummed = wide ? Word(whole) : shorts ? four : bytes ? eight : two;
    return outer ? pairs ? sums : Word(whole) : unsummed;
  }
  template <int kBits>
  static ap_uint<4 * kBits> four_of(const ap_int<32> value[4]) {
    #pragma HLS INLINE
    ap_uint<4 * kBits> joined;
  lanes:
    for (int i = 0; i < 4; ++i) {
      #pragma HLS UNROLL
      joined(kBits * i + kBits - 1, kBits * i) = ap_uint<kBits>(value[i]);
    }
    return joined;
  }
};

// Finish the values of a frame, and hand its words on, one per cycle, and the sums of its planes.
inline void store(hls::stream<StoreCommand>& command_in, hls::stream<Quad>& quads_in,
                  hls::stream<Elements>& elements_in, hls::stream<ReportCommand>& report_out,
                  hls::stream<SumsCommand>& sums_out, hls::stream<Result>& results_out,
                  hls::stream<SideRow>& rows_out, hls::stream<Summary>& summary_out) {
  const StoreCommand command = command_in.read();
  report_out.write(command.for_report());
  sums_out.write(command.for_sums());
  if (!command.computes) {
    results_out.write({0, false, true});
  }
  const bool elements = command.elements();
  const bool reduce = command.mode == kReduce;
  const bool finishes = !command.outer() && command.result != kInt64;
  const bool sums = command.planes != 0;
  Format format;
  format.set(command);
  FinishSettings how;
  how.set(command);
  PlaneSums planes;
  planes.start(command.plane);
  Tally tally;
  tally.start();

  Values held;
  held.last = false;
  ap_uint<32> kept = 0;  // four int8 that wait for four more
  bool half = false;     // there are
  ap_uint<2> turn = 0;
  // Known one word ahead, so that no word waits for a comparison.
  bool filled = false;  // held has values
  bool takes = true;    // the next ones are due
  bool ends = false;    // or the frame's last word is
  bool done = !command.computes;
results:
  while (!done) {
    #pragma HLS PIPELINE II=1
    Finished finished;
    finished.take(how, held.shifted, held.closed);
    const bool full = !format.bytes || half || format.outer;
    Result result;
    result.word = format.word(held.value, finished.value, kept, turn);
    result.sent = filled && full && !reduce;
    result.last = ends;
    if (result.sent || ends) {
      results_out.write(result);
    }

    const bool closes = filled && (takes || ends);
    tally.enter(finished, closes && finishes);
    SideRow side;
    side.row = 0;
    side.counts = sums && closes && planes.ending();
    side.last = ends;
    if (closes) {
      side.row = planes.add(finished.value, held.other, reduce);
      planes.step();
    }
    if (side.counts || ends) {
      rows_out.write(side);
    }
    kept = Format::four_of<8>(finished.value);
    half = filled && !half;
    done = ends;
    turn = takes ? ap_uint<2>(0) : ap_uint<2>(turn + 1);
    if (takes) {
      if (elements) {
        held.take(elements_in.read());
      } else {
        held.take(quads_in.read());
      }
      held.shift(command.shift);
    }
    const bool last_follows = turn == format.last_turn;
    takes = last_follows && !held.last;
    ends = last_follows && held.last;
    filled = true;
  }
  Finished nothing = {};
  tally.enter(nothing, false);
  Summary summary;
  summary.saturations = tally.saturations;
  summary.largest = tally.largest;
  summary_out.write(summary);
}
