// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "messages.hpp"

// Add rows of sums.
inline ap_uint<kSideBits> add_rows(const ap_uint<kSideBits>& row, const ap_uint<kSideBits>& other) {
  #pragma HLS INLINE
  ap_uint<kSideBits> added = 0;
lanes:
  for (int i = 0; i < 4; ++i) {
    #pragma HLS UNROLL
    constexpr int kFirst = 4 * kSideSumBits;
    const int sum = kSideSumBits * i;
    const int product = kFirst + kSideProductBits * i;
    added(sum + kSideSumBits - 1, sum) = ap_uint<kSideSumBits>(row(sum + kSideSumBits - 1, sum)) +
                                         ap_uint<kSideSumBits>(other(sum + kSideSumBits - 1, sum));
    added(product + kSideProductBits - 1, product) =
        ap_uint<kSideProductBits>(row(product + kSideProductBits - 1, product)) +
        ap_uint<kSideProductBits>(other(product + kSideProductBits - 1, product));
  }
  return added;
}

// A word of a row: two of two sums, then four of products.
inline Word row_word(const ap_uint<kSideBits>& row, ap_uint<3> turn) {
  #pragma HLS INLINE
  ap_int<64> products[4];
lanes:
  for (int i = 0; i < 4; ++i) {
    #pragma HLS UNROLL
    constexpr int kFirst = 4 * kSideSumBits;
    products[i] = ap_int<kSideProductBits>(
        row(kFirst + kSideProductBits * i + kSideProductBits - 1, kFirst + kSideProductBits * i));
  }
  const Word low = row(2 * kSideSumBits - 1, 0);
  const Word high = row(4 * kSideSumBits - 1, 2 * kSideSumBits);
  const ap_uint<2> lane = ap_uint<2>(turn) ^ 2;
  const bool of_products = turn[2] || turn[1];
  return of_products ? Word(mux_tree<4>(products, lane)) : turn[0] ? high : low;
}

// Keep the sums of a frame's planes, added to those that frames before it have held back, and hand them on
// where the frame reports.
inline void sums(hls::stream<SumsCommand>& command_in, hls::stream<SideRow>& rows_in,
                 hls::stream<SumWord>& words_out) {
  static ap_uint<kSideBits> sides[kSideDepth];
  static bool adds = false;
  const SumsCommand command = command_in.read();
  ap_uint<log2_ceil(kSideDepth)> at = 0;
  bool done = !command.computes;
rows:
  while (!done) {
    #pragma HLS PIPELINE II=1
    const SideRow side = rows_in.read();
    const ap_uint<kSideBits> before = sides[at];
    if (side.counts) {
      sides[at] = adds ? add_rows(before, side.row) : side.row;
      at += 1;
    }
    done = side.last;
  }
  adds = command.holds;

  const ap_uint<3> last_turn = command.products ? 5 : 1;
  ap_uint<9> left = (ap_uint<10>(command.planes) << 2) - 1;  // rows to go, less one
  ap_uint<3> turn = 0;
  at = 0;
  done = command.planes == 0;
words:
  while (!done) {
    #pragma HLS PIPELINE II=1
    const bool ends = turn == last_turn;
    SumWord word;
    word.word = row_word(sides[at], turn);
    word.last = ends && left == 0;
    words_out.write(word);
    at += ends;
    left -= ends;
    turn = ends ? ap_uint<3>(0) : ap_uint<3>(turn + 1);
    done = word.last;
  }
}
