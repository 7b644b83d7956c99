// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "frame.hpp"
#include "pick.hpp"

// The incoming words of one frame.
struct Receiver {
  CheckSums sums;
  ap_uint<32> words;
  bool ended;  // TLAST was seen

  Word take(hls::stream<Beat>& words_in) {
    #pragma HLS INLINE
    const Beat beat = words_in.read();
    words += 1;
    ended = beat.last;
    return beat.data;
  }
};

// What load itself needs of the header.
template <int kXBits, int kWBits>
struct Payload {
  bool x16;       // x as int16, else 8 bits
  bool x_signed;  // 8-bit x as int8, else uint8
  bool more;      // another frame follows
  ap_uint<kXBits> x_words;
  ap_uint<kWBits> w_words;
};

// Take the header, hand it on, and judge it. Words missing after an early end count as zero.
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, int kXBits, int kWBits>
ap_uint<8> load_header(hls::stream<Beat>& words_in, Receiver& receiver, Payload<kXBits, kWBits>& payload,
                       hls::stream<Word>& plan_out) {
  #pragma HLS INLINE
  bool magic = false, version = false, mode = false, lanes = false, length = false, check = false;
  bool identify = false;
header:
  for (int i = 0; i < kHeaderWords; ++i) {
    #pragma HLS PIPELINE II=1
    Word word = 0;
    if (!receiver.ended) {
      word = receiver.take(words_in);
    }
    plan_out.write(word);
    const ap_uint<8> code = word(31, 24);
    magic = i == 0 ? word(15, 0) == kFrameMagic : magic;
    version = i == 0 ? word(23, 16) == kVersion : version;
    mode = i == 0 ? code < kModes : mode;
    identify = i == 0 ? code == kIdentify : identify;
    lanes = i == 0 ? word(39, 32) == kIcLanes && word(47, 40) == kOcLanes : lanes;
    payload.more = i == 0 ? bool(word[48]) : payload.more;
    payload.x16 = i == 0 ? bool(word[49]) : payload.x16;
    payload.x_signed = i == 0 ? bool(word[50]) : payload.x_signed;

    const ap_uint<32> x_count = word(31, 0);
    const ap_uint<32> w_count = word(63, 32);
    const ap_uint<kXBits> x_words = payload.x16 ? x_count * (kIcLanes / 4) : x_count * (kIcLanes / 8);
    const ap_uint<kWBits> w_words = w_count * (kIcLanes / 8);
    payload.x_words = i == 1 ? x_words : payload.x_words;
    payload.w_words = i == 1 ? w_words : payload.w_words;
    const bool fits = x_count <= kXDepth && w_count <= kOcLanes * kWDepth;
    const bool none = x_count == 0 && w_count == 0;
    length = i == 1 ? fits && (none || !identify) : length;

    const ap_uint<4> depth = word(19, 16);
    length = i == 3 ? length && depth >= 1 && depth <= kLevels : length;
    check = receiver.sums.s1 == word;
    receiver.sums.add(word, true);
  }
  ap_uint<8> status = kOk;
  // Of several faults the one that is assigned last counts.
  status = length ? status : ap_uint<8>(kBadLength);
  status = lanes ? status : ap_uint<8>(kBadLanes);
  status = mode ? status : ap_uint<8>(kBadMode);
  status = version ? status : ap_uint<8>(kBadVersion);
  status = magic ? status : ap_uint<8>(kBadMagic);
  status = check ? status : ap_uint<8>(kBadHeaderCheck);
  status = receiver.ended ? ap_uint<8>(kEarlyEnd) : status;
  return status;
}

// Fill the x buffer, every lane widened to int16.
template <int kIcLanes, int kXDepth, int kXBits, int kWBits>
void load_x(hls::stream<Beat>& words_in, Receiver& receiver, const Payload<kXBits, kWBits>& payload,
            ap_uint<16 * kIcLanes> x_buf[kXDepth]) {
  #pragma HLS INLINE
  constexpr int kBits = 16 * kIcLanes;
  constexpr int kPart =
      log2_ceil(kIcLanes / 8);  // an 8-bit vector has 2**kPart words, an int16 one twice that
  ap_uint<kBits> vector = 0;
x_words:
  for (ap_uint<kXBits> i = 0; i < payload.x_words && !receiver.ended; ++i) {
    #pragma HLS PIPELINE II=1
    const Word word = receiver.take(words_in);
    receiver.sums.add(word, true);
    ap_uint<128> widened;
  lanes:
    for (int lane = 0; lane < 8; ++lane) {
      #pragma HLS UNROLL
      const bool negative = payload.x_signed && word[8 * lane + 7];
      widened(16 * lane + 7, 16 * lane) = word(8 * lane + 7, 8 * lane);
      widened(16 * lane + 15, 16 * lane + 8) = negative ? 0xFF : 0;
    }
    const ap_uint<kBits> by_64 = (vector >> 64) | (ap_uint<kBits>(word) << (kBits - 64));
    const ap_uint<kBits> by_128 = (vector >> 128) | (ap_uint<kBits>(widened) << (kBits - 128));
    vector = payload.x16 ? by_64 : by_128;
    const ap_uint<kXBits> part = payload.x16 ? (2 << kPart) - 1 : (1 << kPart) - 1;
    const ap_uint<kXBits> at = payload.x16 ? i >> (kPart + 1) : i >> kPart;
    if ((i & part) == part) {
      x_buf[at] = vector;
    }
  }
}

// Fill the weight buffer: vector i goes to bank i % kOcLanes, row i / kOcLanes.
template <int kIcLanes, int kOcLanes, int kWDepth, int kXBits, int kWBits>
void load_w(hls::stream<Beat>& words_in, Receiver& receiver, const Payload<kXBits, kWBits>& payload,
            ap_uint<8 * kIcLanes> w_buf[kOcLanes][kWDepth]) {
  #pragma HLS INLINE
  constexpr int kBits = 8 * kIcLanes;
  constexpr int kPart = log2_ceil(kIcLanes / 8);
  constexpr int kBank = log2_ceil(kOcLanes);
  ap_uint<kBits> vector = 0;
w_words:
  for (ap_uint<kWBits> i = 0; i < payload.w_words && !receiver.ended; ++i) {
    #pragma HLS PIPELINE II=1
    const Word word = receiver.take(words_in);
    receiver.sums.add(word, true);
    vector = (vector >> 64) | (ap_uint<kBits>(word) << (kBits - 64));
    const ap_uint<kBank> bank = i >> kPart;
    const ap_uint<kWBits> row = i >> (kPart + kBank);
    constexpr int kLastPart = (1 << kPart) - 1;
    if ((i & kLastPart) == kLastPart) {
      w_buf[bank][row] = vector;
    }
  }
}

// Take the two check words and judge the frame's end.
inline ap_uint<8> load_check(hls::stream<Beat>& words_in, Receiver& receiver, bool more) {
  #pragma HLS INLINE
  bool whole = false, good = true;
check:
  for (int i = 0; i < 2 && !receiver.ended; ++i) {
    #pragma HLS PIPELINE II=1
    const Word word = receiver.take(words_in);
    good = good && word == (i == 0 ? receiver.sums.s1 : receiver.sums.s2);
    whole = i == 1;
  }
  ap_uint<8> status = kOk;
  status = !more && !receiver.ended ? ap_uint<8>(kLateEnd) : status;
  status = more && receiver.ended ? ap_uint<8>(kEarlyEnd) : status;
  status = good ? status : ap_uint<8>(kBadFrameCheck);
  status = whole ? status : ap_uint<8>(kEarlyEnd);
  return status;
}

// Take one frame: its header goes to plan_out, followed by the verdict on the frame; its payload goes
// to the buffers. One word per cycle. After an error the rest of the transfer is swallowed.
//
//   kIcLanes, kOcLanes  lanes of the engine
//   kXDepth, kWDepth    rows of the buffers
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth>
void load(hls::stream<Beat>& words_in, ap_uint<16 * kIcLanes> x_buf[kXDepth],
          ap_uint<8 * kIcLanes> w_buf[kOcLanes][kWDepth], hls::stream<Word>& plan_out) {
  static_assert(is_power_of_2(kIcLanes) && kIcLanes >= 8, "load: kIcLanes must be a power of two, 8 or more");
  static_assert(kIcLanes == 2 * kOcLanes, "load: a vector must hold kIcLanes int8 or kOcLanes int16");
  static_assert(is_power_of_2(kXDepth) && is_power_of_2(kWDepth), "load: the depths must be powers of two");
  constexpr int kXBits = log2_ceil(kXDepth * kIcLanes / 4) + 1;
  constexpr int kWBits = log2_ceil(kWDepth * kOcLanes * kIcLanes / 8) + 1;

  Receiver receiver;
  receiver.sums.clear();
  receiver.words = 0;
  receiver.ended = false;
  Payload<kXBits, kWBits> payload = {};
  ap_uint<8> status =
      load_header<kIcLanes, kOcLanes, kXDepth, kWDepth>(words_in, receiver, payload, plan_out);
  if (status == kOk) {
    load_x<kIcLanes, kXDepth>(words_in, receiver, payload, x_buf);
    load_w<kIcLanes, kOcLanes, kWDepth>(words_in, receiver, payload, w_buf);
    status = load_check(words_in, receiver, payload.more);
  }
  const Word verdict = (Word(receiver.words) << 32) | Word(status);
  bool ended = receiver.ended || status == kOk;
  bool told = false;
swallow:
  while (!told) {
    #pragma HLS PIPELINE II=1
    told = ended;
    if (told) {
      plan_out.write(verdict);
    } else {
      ended = words_in.read().last;
    }
  }
}
