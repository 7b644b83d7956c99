// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "elements.hpp"
#include "load_header.hpp"

// Fill the coefficient buffer, four words a row.
template <int kXBits, int kWBits>
void load_coefficients(hls::stream<Beat>& words_in, Receiver& receiver, const Header<kXBits, kWBits>& header,
                       ap_uint<kCoefficientBits> coefficient_buf[kCoefficientDepth]) {
  #pragma HLS INLINE
  ap_uint<kCoefficientBits> row = 0;
coefficient_words:
  for (ap_uint<9> i = 0; i < header.coefficient_words && !receiver.ended; ++i) {
    #pragma HLS PIPELINE II=1
    const Word word = receiver.take(words_in);
    receiver.sums.add(word, true);
    row = (row >> 64) | (ap_uint<kCoefficientBits>(word) << (kCoefficientBits - 64));
    const ap_uint<6> at = i >> 2;
    if ((i & 3) == 3) {
      coefficient_buf[at] = row;
    }
  }
}

// Fill the x buffer, every lane widened to int16.
template <int kIcLanes, int kXDepth, int kXBits, int kWBits>
void load_x(hls::stream<Beat>& words_in, Receiver& receiver, const Header<kXBits, kWBits>& header,
            ap_uint<16 * kIcLanes> x_buf[kXDepth]) {
  #pragma HLS INLINE
  constexpr int kBits = 16 * kIcLanes;
  constexpr int kPart =
      log2_ceil(kIcLanes / 8);  // an 8-bit vector has 2**kPart words, an int16 one twice that
  ap_uint<kBits> vector = 0;
x_words:
  for (ap_uint<kXBits> i = 0; i < header.x_words && !receiver.ended; ++i) {
    #pragma HLS PIPELINE II=1
    const Word word = receiver.take(words_in);
    receiver.sums.add(word, true);
    ap_uint<128> widened;
  lanes:
    for (int lane = 0; lane < 8; ++lane) {
      #pragma HLS UNROLL
      const bool negative = header.x_signed && word[8 * lane + 7];
      widened(16 * lane + 7, 16 * lane) = word(8 * lane + 7, 8 * lane);
      widened(16 * lane + 15, 16 * lane + 8) = negative ? 0xFF : 0;
    }
    const ap_uint<kBits> by_64 = (vector >> 64) | (ap_uint<kBits>(word) << (kBits - 64));
    const ap_uint<kBits> by_128 = (vector >> 128) | (ap_uint<kBits>(widened) << (kBits - 128));
    vector = header.x16 ? by_64 : by_128;
    const ap_uint<kXBits> part = header.x16 ? (2 << kPart) - 1 : (1 << kPart) - 1;
    const ap_uint<kXBits> at = header.x16 ? i >> (kPart + 1) : i >> kPart;
    if ((i & part) == part) {
      x_buf[at] = vector;
    }
  }
}

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

// Fill the weight buffer. Vector i goes to bank i % kBanks, row i / kBanks; but where a row of weights has
// half as many vectors, its vector o to bank 2 * o or 2 * o + 1, as the row is even or odd.
//
// Two weights of a multiplier lie side by side in its factor: where the even one is negative, it borrows one
// from the odd one, which is why weights must not be -128.
template <int kIcLanes, int kBanks, int kRows, int kXBits, int kWBits>
void load_w(hls::stream<Beat>& words_in, Receiver& receiver, const Header<kXBits, kWBits>& header,
            ap_uint<8 * kIcLanes> w_buf[kBanks][kRows]) {
  #pragma HLS INLINE
  constexpr int kBits = 8 * kIcLanes;
  constexpr int kPart = log2_ceil(kIcLanes / 8);
  constexpr int kBank = log2_ceil(kBanks);
  ap_uint<kBits> vector = 0;
  ap_uint<kIcLanes> negative = 0;  // lanes of the vector before
w_words:
  for (ap_uint<kWBits> i = 0; i < header.w_words && !receiver.ended; ++i) {
    #pragma HLS PIPELINE II=1
    const Word word = receiver.take(words_in);
    receiver.sums.add(word, true);
    ap_uint<8> signs;
  lanes:
    for (int lane = 0; lane < 8; ++lane) {
      #pragma HLS UNROLL
      signs[lane] = word[8 * lane + 7];
    }
    const ap_uint<kBank> index = i >> kPart;
    const bool borrows = header.paired_weights && index[0];
    const Word kept = lower_weights(word, borrows ? ap_uint<8>(negative(7, 0)) : ap_uint<8>(0));
    negative = (negative >> 8) | (ap_uint<kIcLanes>(signs) << (kIcLanes - 8));
    vector = (vector >> 64) | (ap_uint<kBits>(kept) << (kBits - 64));
    const ap_uint<kBank> rotated = (index << 1) | ap_uint<kBank>(index[kBank - 1]);
    const ap_uint<kBank> bank = header.single_weights ? rotated : index;
    const ap_uint<kWBits> row = i >> (kPart + kBank);
    constexpr int kLastPart = (1 << kPart) - 1;
    if ((i & kLastPart) == kLastPart) {
      w_buf[bank][row] = vector;
    }
  }
}

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

// Fill the mask buffer, one bit for each lane of a pixel.
template <int kXDepth, int kXBits, int kWBits>
void load_mask(hls::stream<Beat>& words_in, Receiver& receiver, const Header<kXBits, kWBits>& header,
               ap_uint<kPixelLanes> mask_buf[kXDepth]) {
  #pragma HLS INLINE
  ap_uint<8> low = 0;
mask_words:
  for (ap_uint<kXBits> i = 0; i < header.mask_words && !receiver.ended; ++i) {
    #pragma HLS PIPELINE II=1
    const Word word = receiver.take(words_in);
    receiver.sums.add(word, true);
    const ap_uint<8> open = open_lanes(word, header.mask_limit, header.mask_signed);
    const ap_uint<kXBits> at = i >> 1;
    if (i[0]) {
      mask_buf[at] = (ap_uint<kPixelLanes>(open) << 8) | ap_uint<kPixelLanes>(low);
    }
    low = open;
  }
}

// Take the two check words, if there are any, and judge the frame's end; decisions rest on registers, as in
// the header.
template <int kXBits, int kWBits>
bool load_check(hls::stream<Beat>& words_in, Receiver& receiver, const Header<kXBits, kWBits>& header,
                ap_uint<8>& status) {
  #pragma HLS INLINE
  bool whole = header.unchecked && receiver.words == header.frame_words();
  bool good = true, ended = false;
  bool known_whole = false, known_good = false, known_ended = false;
  Word word = 0, want = 0;
check:
  for (int i = 0; i < 4; ++i) {
    #pragma HLS PIPELINE II=1
    known_whole = whole;
    known_good = good;
    known_ended = ended;
    good = good && word == want;
    ended = receiver.ended;
    want = i == 0 ? receiver.sums.s1 : receiver.sums.s2();
    word = want;
    if (i < 2 && !receiver.ended && !header.unchecked) {
      word = receiver.take(words_in);
      whole = i == 1;
    }
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
  constexpr int kXBits = log2_ceil(kXDepth * kIcLanes / 4) + 1;
  constexpr int kWBits = log2_ceil(kWDepth * kOcLanes * kIcLanes / 8) + 1;

  Receiver receiver;
  receiver.sums.clear();
  receiver.words = 0;
  receiver.ended = false;
  const Header<kXBits, kWBits> header =
      load_header<kIcLanes, kOcLanes, kXDepth, kWDepth, kXBits, kWBits>(words_in, receiver, plan_out);
  ap_uint<8> status = header.status();
  bool fine = header.fine();
  if (fine) {
    load_coefficients(words_in, receiver, header, coefficient_buf);
    load_x<kIcLanes, kXDepth>(words_in, receiver, header, x_buf);
    load_w<kIcLanes, 2 * kOcLanes, kWDepth / 2>(words_in, receiver, header, w_buf);
    load_mask<kXDepth>(words_in, receiver, header, mask_buf);
    fine = load_check(words_in, receiver, header, status);
  }
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
