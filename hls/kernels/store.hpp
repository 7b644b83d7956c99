// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "finish.hpp"
#include "messages.hpp"

// The outgoing words of one reply.
inline void put(Word word, bool last, hls::stream<Beat>& words_out) {
  #pragma HLS INLINE
  Beat beat;
  beat.data = word;
  beat.keep = -1;
  beat.strb = -1;
  beat.last = last;
  words_out.write(beat);
}

// What the trailer reports of results.
struct Report {
  ap_uint<32> words;
  ap_uint<32> saturations;
  ap_uint<31> largest;
  ap_uint<4> clamped;  // of the latest values, entered one cycle later
  ap_uint<31> magnitude;

  void start() {
    #pragma HLS INLINE
    words = 0;
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

// Finish values and send them, one word per cycle; sums of planes go to `sides`.
inline void store_results(const StoreCommand& command, CheckSums& written, Report& report,
                          ap_uint<kSideBits> sides[kSideDepth], hls::stream<Quad>& quads_in,
                          hls::stream<Elements>& elements_in, hls::stream<Beat>& words_out) {
  #pragma HLS INLINE
  const bool elements = command.elements();
  const bool reduce = command.mode == kReduce;
  const bool finishes = !command.outer() && command.result != kInt64;
  Format format;
  format.set(command);
  FinishSettings how;
  how.set(command);
  PlaneSums planes;
  planes.start(command.plane);

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
    const bool sends = filled && full && !reduce;
    const Word word = format.word(held.value, finished.value, kept, turn);
    if (sends) {
      put(word, false, words_out);
    }
    written.add(word, sends);
    report.words += sends;

    const bool closes = filled && (takes || ends);
    report.enter(finished, closes && finishes);
    if (closes) {
      const ap_uint<kSideBits> row = planes.add(finished.value, held.other, reduce);
      const ap_uint<log2_ceil(kSideDepth)> at = (planes.plane << 2) | ap_uint<8>(planes.quarter);
      if (planes.ending()) {
        sides[at] = row;
      }
      planes.step();
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
  report.enter(nothing, false);
}

// Send the sums of each plane: 16 sums, then 16 sums of products.
inline void store_sides(ap_uint<8> count, CheckSums& checked, const ap_uint<kSideBits> sides[kSideDepth],
                        hls::stream<Beat>& words_out) {
  #pragma HLS INLINE
  const ap_uint<14> words = ap_uint<14>(count) * (2 * kPixelLanes);
sides:
  for (ap_uint<14> i = 0; i < words; ++i) {
    #pragma HLS PIPELINE II=1
    const ap_uint<log2_ceil(kSideDepth)> at = ((i >> 5) << 2) | ((i >> 2) & 3);
    const ap_uint<kSideBits> row = sides[at];
    ap_int<64> sums[4];
    ap_int<64> products[4];
  lanes:
    for (int lane = 0; lane < 4; ++lane) {
      #pragma HLS UNROLL
      constexpr int kFirst = 4 * kSideSumBits;
      sums[lane] = ap_int<kSideSumBits>(row(kSideSumBits * lane + kSideSumBits - 1, kSideSumBits * lane));
      products[lane] = ap_int<kSideProductBits>(
          row(kFirst + kSideProductBits * lane + kSideProductBits - 1, kFirst + kSideProductBits * lane));
    }
    const ap_uint<2> lane = i;
    const Word word = i[4] ? mux_tree<4>(products, lane) : mux_tree<4>(sums, lane);
    put(word, false, words_out);
    checked.add(word, true);
  }
}

// Send the reply to one frame: results, sums of planes, then the trailer.
//
//   kIcLanes, kOcLanes  lanes of the engine
//   kXDepth, kWDepth    rows of the buffers, told by identify
//   kConfigHash         which configuration this is, told by identify
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, unsigned int kConfigHash>
void store(hls::stream<StoreCommand>& command_in, hls::stream<Quad>& quads_in,
           hls::stream<Elements>& elements_in, hls::stream<ap_uint<32>>& iterations_in,
           hls::stream<Beat>& words_out) {
  constexpr int kIdentityWords = 2;
  constexpr int kChecks = kIdentityWords + kTrailerWords - 2;  // the last two words
  ap_uint<kSideBits> sides[kSideDepth];
  const StoreCommand command = command_in.read();
  CheckSums written, checked;
  written.clear();
  checked.clear();
  Report report;
  report.start();
  store_results(command, written, report, sides, quads_in, elements_in, words_out);
  const ap_uint<32> iterations = iterations_in.read();
  const ap_uint<8> planes = command.good() ? command.planes : ap_uint<8>(0);
  store_sides(planes, checked, sides, words_out);

  const bool identify = command.good() && command.mode == kIdentify;
  const ap_uint<32> side_words = ap_uint<32>(planes) * (2 * kPixelLanes);
  const ap_uint<32> words = identify ? ap_uint<32>(kIdentityWords) : ap_uint<32>(report.words + side_words);
  bool own = identify;  // the word is one of its identity
  bool check = false;   // or of the checks
trailer:
  for (ap_uint<4> i = identify ? 0 : kIdentityWords; i < kIdentityWords + kTrailerWords; ++i) {
    #pragma HLS PIPELINE II=1
    const Word lanes = (Word(kXDepth) << 32) | (kOcLanes << 16) | kIcLanes;
    const Word depth = (Word(kConfigHash) << 32) | kWDepth;
    Word said[16];
    said[0] = lanes;
    said[1] = depth;
    said[2] = trailer::Magic::to(kReplyMagic) | trailer::Version::to(kVersion) |
              trailer::Status::to(command.status) | trailer::Nonce::to(command.nonce);
    said[3] = trailer::Iterations::to(iterations) | trailer::Saturations::to(report.saturations);
    said[4] = trailer::WordsIn::to(command.words) | trailer::WordsOut::to(words);
    said[5] = trailer::Largest::to(report.largest);
    said[6] = command.good() ? command.read : Word(0);
    said[7] = written.s1;
    said[8] = written.s2();
  rest:
    for (int k = kChecks; k < 16; ++k) {
      #pragma HLS UNROLL
      said[k] = 0;
    }
    // No sum is added to itself: what a sum adds is chosen without it.
    const Word plain = mux_tree<16>(said, i);
    const Word of_checks = i[0] == (kChecks & 1) ? checked.s1 : checked.s2();
    put(check ? of_checks : plain, i == kChecks + 1 && command.last, words_out);
    written.add(i[0] ? depth : lanes, own);
    checked.add(plain, !own && !check);
    own = own && !i[0];
    check = check || i == kChecks - 1;
  }
}
