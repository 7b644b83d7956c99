// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "elements.hpp"
#include "load_header.hpp"

// Coefficients, four words a row.
struct CoefficientWords {
  ap_uint<kCoefficientBits> row;

  void put(Word word, ap_uint<9> i, bool here, ap_uint<kCoefficientBits> coefficient_buf[kCoefficientDepth]) {
    #pragma HLS INLINE
    row = (row >> 64) | (ap_uint<kCoefficientBits>(word) << (kCoefficientBits - 64));
    const ap_uint<6> at = i >> 2;
    if (here && (i & 3) == 3) {
      coefficient_buf[at] = row;
    }
  }
};

// Vectors of x, every lane widened to int16.
template <int kIcLanes>
struct XWords {
  static constexpr int kVector = 16 * kIcLanes;
  // An 8-bit vector has 2**kShare words, an int16 one twice that.
  static constexpr int kShare = log2_ceil(kIcLanes / 8);

  ap_uint<kVector> vector;

  template <int kBits, int kXDepth>
  void put(Word word, ap_uint<kBits> i, bool here, const Header<kBits>& header,
           ap_uint<kVector> x_buf[kXDepth]) {
    #pragma HLS INLINE
    ap_uint<128> widened;
  lanes:
    for (int lane = 0; lane < 8; ++lane) {
      #pragma HLS UNROLL
      const bool negative = header.x_signed && word[8 * lane + 7];
      widened(16 * lane + 7, 16 * lane) = word(8 * lane + 7, 8 * lane);
      widened(16 * lane + 15, 16 * lane + 8) = negative ? 0xFF : 0;
    }
    const ap_uint<kVector> by_64 = (vector >> 64) | (ap_uint<kVector>(word) << (kVector - 64));
    const ap_uint<kVector> by_128 = (vector >> 128) | (ap_uint<kVector>(widened) << (kVector - 128));
    vector = header.x16 ? by_64 : by_128;
    const ap_uint<kBits> share = header.x16 ? (2 << kShare) - 1 : (1 << kShare) - 1;
    const ap_uint<kBits> at = header.x16 ? i >> (kShare + 1) : i >> kShare;
    if (here && (i & share) == share) {
      x_buf[at] = vector;
    }
  }
};

// A word of weights, less one in each lane where `less` says so.
inline Word lower_weights(Word word, ap_uint<8> less) {
  #pragma HLS INLINE
  Word lowered;
lanes:
  for (int lane = 0; lane < 8; ++lane) {
    #pragma HLS UNROLL
    const ap_uint<8> weight = word(8 * lane + 7, 8 * lane);
    lowered(8 * lane + 7, 8 * lane) = ap_uint<8>(weight - ap_uint<8>(less[lane]));
  }
  return lowered;
}

// Vectors of weights, gradients or v. Vector i goes to bank i % kBanks, row i / kBanks; but where a row of
// weights has half as many vectors, its vector o to bank 2 * o or 2 * o + 1, as the row is even or odd.
//
// Two weights of a multiplier lie side by side in its factor: where the even one is negative, it borrows one
// from the odd one, which is why weights must not be -128.
template <int kIcLanes, int kBanks>
struct WWords {
  static constexpr int kVector = 8 * kIcLanes;
  static constexpr int kShare = log2_ceil(kIcLanes / 8);
  static constexpr int kBank = log2_ceil(kBanks);

  ap_uint<kVector> vector;
  ap_uint<kIcLanes> negative;  // lanes of the vector before

  template <int kBits, int kRows>
  void put(Word word, ap_uint<kBits> i, bool here, const Header<kBits>& header,
           ap_uint<kVector> w_buf[kBanks][kRows]) {
    #pragma HLS INLINE
    ap_uint<8> signs;
  lanes:
    for (int lane = 0; lane < 8; ++lane) {
      #pragma HLS UNROLL
      signs[lane] = word[8 * lane + 7];
    }
    const ap_uint<kBank> index = i >> kShare;
    const bool borrows = header.paired_weights && index[0];
    const Word kept = lower_weights(word, borrows ? ap_uint<8>(negative(7, 0)) : ap_uint<8>(0));
    negative = (negative >> 8) | (ap_uint<kIcLanes>(signs) << (kIcLanes - 8));
    vector = (vector >> 64) | (ap_uint<kVector>(kept) << (kVector - 64));
    const ap_uint<kBank> rotated = (index << 1) | ap_uint<kBank>(index[kBank - 1]);
    const ap_uint<kBank> bank = header.single_weights ? rotated : index;
    const ap_uint<kBits> row = i >> (kShare + kBank);
    constexpr int kLast = (1 << kShare) - 1;
    if (here && (i & kLast) == kLast) {
      w_buf[bank][row] = vector;
    }
  }
};

// Where eight lanes of a mask are open: above zero and below the limit. Spec: numerics.opens.
inline ap_uint<8> open_lanes(Word word, ap_uint<16> limit, bool is_signed) {
  #pragma HLS INLINE
  ap_uint<8> open;
lanes:
  for (int lane = 0; lane < 8; ++lane) {
    #pragma HLS UNROLL
    const ap_uint<8> value = word(8 * lane + 7, 8 * lane);
    open[lane] = value != 0 && value < limit && !(is_signed && value[7]);
  }
  return open;
}

// A mask, one bit for each lane of a pixel.
struct MaskWords {
  ap_uint<8> low;

  template <int kBits, int kXDepth>
  void put(Word word, ap_uint<kBits> i, bool here, const Header<kBits>& header,
           ap_uint<kPixelLanes> mask_buf[kXDepth]) {
    #pragma HLS INLINE
    const ap_uint<8> open = open_lanes(word, header.mask_limit, header.mask_signed);
    const ap_uint<kBits> at = i >> 1;
    if (here && i[0]) {
      mask_buf[at] = (ap_uint<kPixelLanes>(open) << 8) | ap_uint<kPixelLanes>(low);
    }
    low = open;
  }
};

// Which part of a payload is arriving, one bit of `now`, and which are yet to come.
struct PartTurn {
  ap_uint<kParts> now;
  ap_uint<kParts> rest;
  bool last;  // none is

  void next() {
    #pragma HLS INLINE
    const ap_uint<kParts> others = rest & ap_uint<kParts>(rest - 1);
    now = rest ^ others;
    rest = others;
    last = others == 0;
  }
};

// Whether the next word is the last one of its part.
template <int kBits>
bool ends_part(const PartTurn& turn, const Part<kBits> parts[kParts]) {
  #pragma HLS INLINE
  bool ends = false;
parts:
  for (int k = 0; k < kParts; ++k) {
    #pragma HLS UNROLL
    ends = ends || (turn.now[k] && parts[k].last);
  }
  return ends;
}

// Fill the buffers; returns whether the payload came to its end. One loop takes all parts: whether a part
// ends and which one follows rests on registers, known one word ahead.
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, int kBits>
bool load_payload(hls::stream<Beat>& words_in, Receiver& receiver, const Header<kBits>& header,
                  ap_uint<16 * kIcLanes> x_buf[kXDepth],
                  ap_uint<8 * kIcLanes> w_buf[2 * kOcLanes][kWDepth / 2],
                  ap_uint<kPixelLanes> mask_buf[kXDepth],
                  ap_uint<kCoefficientBits> coefficient_buf[kCoefficientDepth]) {
  #pragma HLS INLINE
  CoefficientWords coefficients = {0};
  XWords<kIcLanes> x = {0};
  WWords<kIcLanes, 2 * kOcLanes> w = {0, 0};
  MaskWords mask = {0};
  Part<kBits> parts[kParts];
  PartTurn turn = {0, 0, false};
parts:
  for (int k = 0; k < kParts; ++k) {
    #pragma HLS UNROLL
    parts[k] = header.parts[k];
    turn.rest[k] = parts[k].any;
  }
  bool complete = turn.rest == 0;
  bool more = !complete && !receiver.ended;
  turn.next();
  bool ends = ends_part(turn, parts);
  ap_uint<kBits> i = 0;
payload:
  while (more) {
    #pragma HLS PIPELINE II=1
    const bool takes = !receiver.ended;  // decisions rest on registers, as in the header
    Word word = 0;
    if (takes) {
      word = receiver.take(words_in);
    }
    receiver.sums.add(word, takes);
    coefficients.put(word, i, turn.now[kCoefficients], coefficient_buf);
    x.template put<kBits, kXDepth>(word, i, turn.now[kX], header, x_buf);
    w.template put<kBits, kWDepth / 2>(word, i, turn.now[kW], header, w_buf);
    mask.template put<kBits, kXDepth>(word, i, turn.now[kMask], header, mask_buf);
  counts:
    for (int k = 0; k < kParts; ++k) {
      #pragma HLS UNROLL
      if (turn.now[k]) {
        parts[k].step();
      }
    }
    complete = takes && ends && turn.last;
    more = takes && !complete;
    i = ends ? ap_uint<kBits>(0) : ap_uint<kBits>(i + 1);
    if (ends) {
      turn.next();
    }
    ends = ends_part(turn, parts);
  }
  return complete;
}

// Take the two check words, if there are any, and judge the frame's end; decisions rest on registers, as in
// the header.
template <int kBits>
bool load_check(hls::stream<Beat>& words_in, Receiver& receiver, const Header<kBits>& header, bool complete,
                ap_uint<8>& status) {
  #pragma HLS INLINE
  bool whole = header.unchecked && complete;
  bool takes = !header.unchecked && !receiver.ended;
  bool good = true, ended = false;
  bool known_whole = false, known_good = false, known_ended = false;
  Word word = 0, want = 0;
check:
  for (ap_uint<5> turn = 1; !turn[4]; turn <<= 1) {
    #pragma HLS PIPELINE II=1
    known_whole = whole;
    known_good = good;
    known_ended = ended;
    good = good && word == want;
    ended = receiver.ended;
    want = turn[0] ? receiver.sums.s1 : receiver.sums.s2();
    word = want;
    if (takes) {
      word = receiver.take(words_in);
      whole = turn[1];
    }
    takes = takes && turn[0] && !receiver.ended;
  }
  status = header.more ? ap_uint<8>(kStatusEarlyEnd) : ap_uint<8>(kStatusLateEnd);
  status = header.more != known_ended ? ap_uint<8>(kStatusOk) : status;
  status = known_good ? status : ap_uint<8>(kStatusFrameCheck);
  status = known_whole ? status : ap_uint<8>(kStatusEarlyEnd);
  return known_whole && known_good && header.more != known_ended;
}

// Take one frame: its header goes to plan_out, followed by the verdict on the frame and the check sum of what
// was read; its payload goes to the buffers. One word per cycle. After an error the rest of the transfer is
// drained.
//
//   kIcLanes, kOcLanes  lanes of the engine
//   kXDepth, kWDepth    rows of the buffers, of w_buf for kOcLanes vectors
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth>
void load(hls::stream<Beat>& words_in, ap_uint<16 * kIcLanes> x_buf[kXDepth],
          ap_uint<8 * kIcLanes> w_buf[2 * kOcLanes][kWDepth / 2], ap_uint<kPixelLanes> mask_buf[kXDepth],
          ap_uint<kCoefficientBits> coefficient_buf[kCoefficientDepth], hls::stream<Word>& plan_out) {
  static_assert(kIcLanes == kPixelLanes, "load: a vector must be a pixel");
  static_assert(kIcLanes == 2 * kOcLanes, "load: a vector must hold kIcLanes int8 or kOcLanes int16");
  static_assert(is_power_of_2(kXDepth) && is_power_of_2(kWDepth), "load: the depths must be powers of two");
  constexpr int kXWords = kXDepth * kIcLanes / 4;
  constexpr int kWWords = kWDepth * kOcLanes * kIcLanes / 8;
  constexpr int kBits = log2_ceil(kXWords > kWWords ? kXWords : kWWords) + 1;
  static_assert(kBits >= 9, "load: the words of coefficients must fit too");

  static bool holds = false;  // the frame before does
  static ap_uint<8> planes = 0;

  Receiver receiver;
  receiver.sums.clear();
  receiver.words = 0;
  receiver.ended = false;
  const Held held = {holds, planes};
  const Header<kBits> header =
      load_header<kIcLanes, kOcLanes, kXDepth, kWDepth, kBits>(words_in, receiver, held, plan_out);
  ap_uint<8> status = header.status();
  bool fine = header.fine();
  if (fine) {
    const bool complete = load_payload<kIcLanes, kOcLanes, kXDepth, kWDepth>(
        words_in, receiver, header, x_buf, w_buf, mask_buf, coefficient_buf);
    fine = load_check(words_in, receiver, header, complete, status);
  }
  holds = fine && header.holds;
  planes = header.planes;
  const Word verdict = (Word(receiver.words) << 32) | Word(status);
  const Word read = receiver.sums.s2();
  bool ended = receiver.ended || fine;
  bool judged = false;  // the verdict is out
  bool told = false;    // and the check sum
drain:
  while (!told) {
    #pragma HLS PIPELINE II=1
    told = judged;
    const bool now = ended;
    if (now) {
      plan_out.write(judged ? read : verdict);
    } else {
      ended = words_in.read().last;
    }
    judged = now;
  }
}
