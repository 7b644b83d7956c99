// SPDX-License-Identifier: Apache-2.0
// The frame that commands the engine: its words, codes and check sums. Spec: numerics.engine.
#pragma once

using Word = ap_uint<64>;
using Beat = ap_axiu<64, 0, 0, 0>;

constexpr int kFrameMagic = 0xE27A;
constexpr int kReplyMagic = 0xE27B;
constexpr int kVersion = 2;
constexpr int kHeaderWords = 12;
constexpr int kPlanWords = kHeaderWords + 1;  // the header, and what was found on reading the frame
constexpr int kLevels = 7;                    // of the loop nest, described by words 4 to 10
constexpr int kFirstLevel = 4;
constexpr int kTrailerWords = 5;
constexpr int kNonceBits = 32;  // of a request, returned in the trailer of its reply

// Modes; codes from kModes on are free.
constexpr int kIdentify = 0;
constexpr int kForward = 1;
constexpr int kGradInput = 2;
constexpr int kGradWeight = 3;
constexpr int kGradMsb = 4;  // grad_weight from the high bits of both operands
constexpr int kModes = 5;

// The most high bits that grad_msb keeps of x and of gy.
constexpr int kXKept = 4;
constexpr int kGKept = 10;

// Verdicts on a frame.
constexpr int kOk = 0;
constexpr int kBadMagic = 1;
constexpr int kBadVersion = 2;
constexpr int kBadMode = 3;
constexpr int kBadLanes = 4;
constexpr int kBadLength = 5;
constexpr int kBadHeaderCheck = 6;
constexpr int kBadFrameCheck = 7;
constexpr int kEarlyEnd = 8;
constexpr int kLateEnd = 9;
constexpr int kBadBits = 10;

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
