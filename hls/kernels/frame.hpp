// SPDX-License-Identifier: Apache-2.0
// The frame that commands the engine: its words, fields and check sums. Spec: numerics.frames.
#pragma once

using Word = ap_uint<64>;
using Beat = ap_axiu<64, 0, 0, 0>;

// Bits kLow to kLow + kBits - 1 of word kWord hold a number.
template <int kWord, int kLow, int kBits>
struct Field {
  static constexpr int word = kWord;

  static ap_uint<kBits> of(const Word& word) {
    #pragma HLS INLINE
    return word(kLow + kBits - 1, kLow);
  }
  static Word to(ap_uint<kBits> value) {
    #pragma HLS INLINE
    return Word(value) << kLow;
  }
};

// Likewise, of a signed one.
template <int kWord, int kLow, int kBits>
struct SignedField {
  static constexpr int word = kWord;

  static ap_int<kBits> of(const Word& word) {
    #pragma HLS INLINE
    return word(kLow + kBits - 1, kLow);
  }
};

#include "frame_fields.hpp"

constexpr int kPlanWords = kHeaderWords + 2;  // the header, and what was found on reading the frame

// Fletcher's pair: s1 is the sum of the words, s2 the sum of all values of s1.
//
// `before` lacks the latest s1, so that no word passes two adders in one cycle.
struct CheckSums {
  Word s1;
  Word before;

  void clear() {
    #pragma HLS INLINE
    s1 = 0;
    before = 0;
  }
  void add(Word word, bool counts) {
    #pragma HLS INLINE
    before += counts ? s1 : Word(0);
    s1 += counts ? word : Word(0);
  }
  Word s2() const {
    #pragma HLS INLINE
    return before + s1;
  }
};
