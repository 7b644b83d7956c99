// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "messages.hpp"

// Sum of all lanes as a balanced tree of adders, wrapping at kBits.
template <int kLanes, int kBits>
ap_int<kBits> sum_lanes(const ap_int<kBits> lanes[kLanes]) {
  #pragma HLS INLINE
  static_assert(is_power_of_2(kLanes), "sum_lanes: kLanes must be a power of two");
  ap_int<kBits> sums[kLanes];
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

// The accumulators of one output lane, with the wraps of their low fields.
template <int kIcLanes, int kOcLanes, int kWrapBits>
struct Row {
  static constexpr int kLowBits = kFieldBits + kWrapBits;  // of a low sum
  static constexpr int kTotalBits = kLowBits + log2_ceil(kIcLanes);

  ap_int<kAccBits> acc[kIcLanes];
  ap_int<kWrapBits> wraps[kIcLanes];

  // That of output lane 2 * pair + side.
  template <typename Pair>
  void pick(const Bundle<kIcLanes, kOcLanes>& bundle, const Wraps<kIcLanes, kOcLanes, kWrapBits>& counts,
            int side, Pair pair) {
    #pragma HLS INLINE
  lanes:
    for (int c = 0; c < kIcLanes; ++c) {
      #pragma HLS UNROLL
      ap_int<kAccBits> accs[kOcLanes / 2];
      ap_int<kWrapBits> ups[kOcLanes / 2];
    pairs:
      for (int i = 0; i < kOcLanes / 2; ++i) {
        #pragma HLS UNROLL
        accs[i] = bundle.acc[(2 * i + side) * kIcLanes + c];
        ups[i] = counts[(2 * i + side) * kIcLanes + c];
      }
      acc[c] = mux_tree<kOcLanes / 2>(accs, pair);
      wraps[c] = mux_tree<kOcLanes / 2>(ups, pair);
    }
  }
  ap_int<kLowBits> low(int c) const {
    #pragma HLS INLINE
    return (ap_int<kLowBits>(wraps[c]) << kFieldBits) |
           ap_int<kLowBits>(ap_uint<kFieldBits>(acc[c](kFieldBits - 1, 0)));
  }
  ap_int<kAccBits> sum() const {
    #pragma HLS INLINE
    return sum_lanes<kIcLanes, kAccBits>(acc);
  }
  ap_int<kTotalBits> low_sum() const {
    #pragma HLS INLINE
    ap_int<kTotalBits> lows[kIcLanes];
  lanes:
    for (int c = 0; c < kIcLanes; ++c) {
      #pragma HLS UNROLL
      lows[c] = low(c);
    }
    return sum_lanes<kIcLanes, kTotalBits>(lows);
  }
};

// What the low field leaves of an accumulator, or of the sum of several.
template <int kBits>
ap_int<kAccBits - kFieldBits> upper(ap_int<kAccBits> acc, ap_int<kBits> low) {
  #pragma HLS INLINE
  const ap_int<kAccBits> rest = acc - low;
  return rest >> kFieldBits;
}

// A quad of sums of all lanes: of pairs four from two rows, else two from this beat and two from the one
// before.
template <int kIcLanes, int kOcLanes, int kWrapBits>
struct DotQuads {
  ap_int<kAccBits> before_even;
  ap_int<kAccBits> before_odd;

  Quad take(const Row<kIcLanes, kOcLanes, kWrapBits>& even, const Row<kIcLanes, kOcLanes, kWrapBits>& odd,
            bool pairs) {
    #pragma HLS INLINE
    const ap_int<kAccBits> even_sum = even.sum();
    const ap_int<kAccBits> odd_sum = odd.sum();
    const ap_int<kAccBits> even_low = even.low_sum();
    const ap_int<kAccBits> odd_low = odd.low_sum();
    Quad quad;
    quad.value[0] = pairs ? even_low : before_even;
    quad.value[1] = pairs ? ap_int<kAccBits>(upper(even_sum, even_low)) : before_odd;
    quad.value[2] = pairs ? odd_low : even_sum;
    quad.value[3] = pairs ? ap_int<kAccBits>(upper(odd_sum, odd_low)) : odd_sum;
    before_even = even_sum;
    before_odd = odd_sum;
    return quad;
  }
};

// The sum of one accumulator, or the two sums of a pair.
template <int kIcLanes, int kOcLanes, int kWrapBits, typename Lane>
Quad outer_quad(const Row<kIcLanes, kOcLanes, kWrapBits>& even, const Row<kIcLanes, kOcLanes, kWrapBits>& odd,
                bool second, Lane lane, const StoreCommand& command) {
  #pragma HLS INLINE
  ap_int<kAccBits> accs[kIcLanes];
  ap_int<kFieldBits + kWrapBits> lows[kIcLanes];
lanes:
  for (int c = 0; c < kIcLanes; ++c) {
    #pragma HLS UNROLL
    accs[c] = second ? odd.acc[c] : even.acc[c];
    lows[c] = second ? odd.low(c) : even.low(c);
  }
  const ap_int<kAccBits> acc = mux_tree<kIcLanes>(accs, lane);
  const ap_int<kFieldBits + kWrapBits> low = mux_tree<kIcLanes>(lows, lane);
  Quad quad;
  quad.value[0] = command.pairs ? ap_int<kAccBits>(command.times4 ? low >> 2 : low) : acc;
  quad.value[1] = upper(acc, low);
  quad.value[2] = 0;
  quad.value[3] = 0;
  return quad;
}

// Turn bundles into quads of sums of all lanes, or in outer modes into single sums or pairs: one quad per
// cycle, every second cycle where a multiplier makes one product. Two rows of adders serve all output lanes.
template <int kIcLanes, int kOcLanes, int kWrapBits>
void collect(hls::stream<StoreCommand>& command_in, hls::stream<Bundle<kIcLanes, kOcLanes>>& bundles_in,
             hls::stream<Wraps<kIcLanes, kOcLanes, kWrapBits>>& wraps_in,
             hls::stream<StoreCommand>& command_out, hls::stream<Quad>& quads_out) {
  static_assert(kOcLanes >= 4, "collect: a bundle must have two beats");
  constexpr int kLane = log2_ceil(kOcLanes);
  constexpr int kBeat = log2_ceil(kIcLanes * kOcLanes);
  const StoreCommand command = command_in.read();
  command_out.write(command);
  const bool outer = command.outer();
  const ap_uint<kBeat> before_last = (outer ? kIcLanes * kOcLanes : kOcLanes / 2) - 2;  // of its beats

  Bundle<kIcLanes, kOcLanes> held;
  held.last = false;
  Wraps<kIcLanes, kOcLanes, kWrapBits> wraps;
  DotQuads<kIcLanes, kOcLanes, kWrapBits> dots = {0, 0};
  ap_uint<kBeat> beat = 0;
  ap_uint<kLane - 1> pair = 0;  // of output lanes, kept beside the beat: it selects out of all accumulators
  // Known one beat ahead, so that no word waits for a comparison.
  bool filled = false;  // held has a bundle
  bool takes = true;    // the next one is due
  bool ends = false;    // or this is the frame's last beat
  bool done = !command.good() || !(outer || command.dot());
sums:
  while (!done) {
    #pragma HLS PIPELINE II=1
    const ap_uint<kBeat - kLane> lane = beat >> kLane;
    Row<kIcLanes, kOcLanes, kWrapBits> even, odd;
    even.pick(held, wraps, 0, pair);
    odd.pick(held, wraps, 1, pair);
    const Quad sums = dots.take(even, odd, command.pairs);
    Quad quad = outer ? outer_quad(even, odd, beat[0], lane, command) : sums;
    quad.last = ends;
    if (filled && (outer || command.pairs || beat[0])) {
      quads_out.write(quad);
    }

    const bool last_follows = !takes && beat == before_last;
    done = ends;
    ends = last_follows && held.last;
    beat = takes ? ap_uint<kBeat>(0) : ap_uint<kBeat>(beat + 1);
    pair = outer ? ap_uint<kBeat>(beat >> 1) : beat;
    if (takes) {
      held = bundles_in.read();
      wraps = wraps_in.read();
    }
    takes = last_follows && !held.last;
    filled = true;
  }
}
