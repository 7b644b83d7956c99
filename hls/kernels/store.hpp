// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "frame.hpp"
#include "messages.hpp"
#include "pick.hpp"
#include "round_shift.hpp"

// The outgoing words of one reply.
struct Sender {
  CheckSums sums;

  void put(Word word, bool last, hls::stream<Beat>& words_out) {
    #pragma HLS INLINE
    Beat beat;
    beat.data = word;
    beat.keep = -1;
    beat.strb = -1;
    beat.last = last;
    words_out.write(beat);
  }
};

// Exact sum of all lanes as a balanced tree of adders.
template <int kLanes, int kBits>
ap_int<kBits + log2_ceil(kLanes)> sum_lanes(const ap_int<kBits> lanes[kLanes]) {
  #pragma HLS INLINE
  static_assert(is_power_of_2(kLanes), "sum_lanes: kLanes must be a power of two");
  ap_int<kBits + log2_ceil(kLanes)> sums[kLanes];
lanes:
  for (int i = 0; i < kLanes; ++i) {
    #pragma HLS UNROLL
    sums[i] = lanes[i];
  }
halvings:
  for (int left = kLanes / 2; left > 0; left /= 2) {
    #pragma HLS UNROLL
  pairs:
    for (int i = 0; i < left; ++i) {
      #pragma HLS UNROLL
      sums[i] = sums[2 * i] + sums[2 * i + 1];
    }
  }
  return sums[0];
}

// The accumulators of output lane 2 * pair + side.
template <int kIcLanes, int kOcLanes, typename Pair>
void pick_row(const Bundle<kIcLanes, kOcLanes>& bundle, int side, Pair pair, ap_int<kAccBits> row[kIcLanes]) {
  #pragma HLS INLINE
lanes:
  for (int c = 0; c < kIcLanes; ++c) {
    #pragma HLS UNROLL
    ap_int<kAccBits> choices[kOcLanes / 2];
  pairs:
    for (int i = 0; i < kOcLanes / 2; ++i) {
      #pragma HLS UNROLL
      choices[i] = bundle.acc[(2 * i + side) * kIcLanes + c];
    }
    row[c] = pick<kOcLanes / 2>(choices, pair);
  }
}

// The wraps counted for one pair of lanes.
template <int kIcLanes, int kOcLanes, int kWrapBits, typename Ic, typename Oc>
ap_int<kWrapBits> pick_wraps(const Wraps<kIcLanes, kOcLanes, kWrapBits>& wraps, Ic ic, Oc oc) {
  #pragma HLS INLINE
  ap_int<kWrapBits> row[kIcLanes];
lanes:
  for (int c = 0; c < kIcLanes; ++c) {
    #pragma HLS UNROLL
    ap_int<kWrapBits> choices[kOcLanes];
  rows:
    for (int o = 0; o < kOcLanes; ++o) {
      #pragma HLS UNROLL
      choices[o] = wraps[o * kIcLanes + c];
    }
    row[c] = pick<kOcLanes>(choices, oc);
  }
  return pick<kIcLanes>(row, ic);
}

// The two sums of grad_msb, as int32 side by side, from their accumulator and the wraps of its low field.
template <int kWrapBits>
Word split_pair(ap_int<kAccBits> acc, ap_int<kWrapBits> wraps) {
  #pragma HLS INLINE
  const ap_int<kWrapBits + kFieldBits> even =
      (ap_int<kWrapBits + kFieldBits>(wraps) << kFieldBits) | ap_uint<kFieldBits>(acc(kFieldBits - 1, 0));
  const ap_int<32> odd = (acc >> kFieldBits) - wraps;
  return (Word(ap_uint<32>(odd)) << 32) | Word(ap_uint<32>(ap_int<32>(even)));
}

// Turn bundles into words, kOcLanes / 2 of them per bundle of int32 sums, kOcLanes of int64 sums, kIcLanes *
// kOcLanes in outer modes. One word per cycle; two adder trees serve all output lanes in turn.
template <int kIcLanes, int kOcLanes, int kWrapBits>
void store_results(const Order& order, Sender& sender, ap_uint<32>& words, ap_uint<32>& saturations,
                   hls::stream<Bundle<kIcLanes, kOcLanes>>& bundles_in,
                   hls::stream<Wraps<kIcLanes, kOcLanes, kWrapBits>>& wraps_in,
                   hls::stream<Beat>& words_out) {
  #pragma HLS INLINE
  constexpr int kLane = log2_ceil(kOcLanes);
  constexpr int kSumBits = kAccBits + log2_ceil(kIcLanes);
  constexpr int kBeat = log2_ceil(kIcLanes * kOcLanes);
  const bool outer = order.outer();
  const bool narrow = !outer && !order.wide;
  const bool msb = order.mode == kGradMsb;
  const ap_uint<kBeat> last_beat = outer        ? kIcLanes * kOcLanes - 1
                                   : order.wide ? kOcLanes - 1
                                                : kOcLanes / 2 - 1;

  Bundle<kIcLanes, kOcLanes> held;
  held.last = false;
  Wraps<kIcLanes, kOcLanes, kWrapBits> wraps;
  ap_uint<kBeat> beat = 0;
  bool filled = false;     // held has a bundle
  ap_uint<2> clamped = 0;  // sums that did not fit in the last word, counted one word later
  bool done = order.status != kOk || order.mode == kIdentify;
results:
  while (!done) {
    #pragma HLS PIPELINE II=1
    const ap_uint<kLane - 1> pair = narrow ? beat : ap_uint<kBeat>(beat >> 1);
    const ap_uint<kBeat - kLane> lane = beat >> kLane;
    ap_int<kAccBits> even[kIcLanes];
    ap_int<kAccBits> odd[kIcLanes];
    pick_row(held, 0, pair, even);
    pick_row(held, 1, pair, odd);
    ap_int<kAccBits> single[kIcLanes];
  lanes:
    for (int c = 0; c < kIcLanes; ++c) {
      #pragma HLS UNROLL
      single[c] = beat[0] ? odd[c] : even[c];
    }
    const ap_int<kAccBits> element = pick<kIcLanes>(single, lane);
    const Word sums = split_pair<kWrapBits>(
        element, pick_wraps<kIcLanes, kOcLanes, kWrapBits>(wraps, lane, ap_uint<kLane>(beat)));
    const ap_int<kSumBits> even_sum = sum_lanes<kIcLanes>(even);
    const ap_int<kSumBits> odd_sum = sum_lanes<kIcLanes>(odd);
    const ap_int<kSumBits> sum = beat[0] ? odd_sum : even_sum;

    bool low_clamped, high_clamped;
    const ap_int<32> low = saturate<32>(round_shift(even_sum, order.shift), low_clamped);
    const ap_int<32> high = saturate<32>(round_shift(odd_sum, order.shift), high_clamped);
    const Word both = (Word(ap_uint<32>(high)) << 32) | Word(ap_uint<32>(low));
    const Word whole = ap_int<64>(outer ? ap_int<kSumBits>(element) : sum);
    const Word unpaired = narrow ? both : whole;
    const Word word = msb ? sums : unpaired;
    if (filled) {
      sender.put(word, false, words_out);
    }
    sender.sums.add(word, filled);
    const bool counts = filled && narrow;
    saturations += clamped;
    clamped = counts ? ap_uint<2>(ap_uint<2>(low_clamped) + ap_uint<2>(high_clamped)) : ap_uint<2>(0);
    words += filled;

    const bool turns = !filled || beat == last_beat;
    done = filled && turns && held.last;
    if (turns && !done) {
      held = bundles_in.read();
      if (msb) {
        wraps = wraps_in.read();
      }
    }
    beat = turns ? ap_uint<kBeat>(0) : ap_uint<kBeat>(beat + 1);
    filled = true;
  }
  saturations += clamped;
}

// Send the reply to one frame: results, then the trailer.
//
//   kIcLanes, kOcLanes  lanes of the engine
//   kXDepth, kWDepth    rows of the buffers, told by identify
//   kConfigHash         which configuration this is, told by identify
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, int kWrapBits, unsigned int kConfigHash>
void store(hls::stream<Order>& order_in, hls::stream<Bundle<kIcLanes, kOcLanes>>& bundles_in,
           hls::stream<Wraps<kIcLanes, kOcLanes, kWrapBits>>& wraps_in,
           hls::stream<ap_uint<32>>& iterations_in, hls::stream<Beat>& words_out) {
  constexpr int kIdentityWords = 2;
  const Order order = order_in.read();
  Sender sender;
  sender.sums.clear();
  ap_uint<32> words = 0;
  ap_uint<32> saturations = 0;
  store_results<kIcLanes, kOcLanes>(order, sender, words, saturations, bundles_in, wraps_in, words_out);
  const ap_uint<32> iterations = iterations_in.read();

  const bool identify = order.status == kOk && order.mode == kIdentify;
  words = identify ? ap_uint<32>(kIdentityWords) : words;
trailer:
  for (ap_uint<3> i = identify ? 0 : kIdentityWords; i < kIdentityWords + kTrailerWords; ++i) {
    #pragma HLS PIPELINE II=1
    const Word lanes = (Word(kXDepth) << 32) | (kOcLanes << 16) | kIcLanes;
    const Word depth = (Word(kConfigHash) << 32) | kWDepth;
    const Word state =
        (Word(order.nonce) << 32) | (Word(order.status) << 24) | (kVersion << 16) | kReplyMagic;
    const Word done = (Word(saturations) << 32) | Word(iterations);
    const Word moved = (Word(words) << 32) | Word(order.words);
    const Word said = i == 0 ? lanes : i == 1 ? depth : i == 2 ? state : i == 3 ? done : moved;
    sender.put(i == 5 ? sender.sums.s1 : i == 6 ? sender.sums.s2() : said, i == 6 && order.last, words_out);
    sender.sums.add(said, i < 5);
  }
}
