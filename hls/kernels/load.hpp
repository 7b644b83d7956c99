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

// What load itself needs of the header, and what it thinks of it.
template <int kXBits, int kWBits>
struct Header {
  bool magic, version, mode, lanes, length, depth, bits, check;  // right or wrong
  bool identify;
  bool msb;       // of the high bits
  bool x16;       // x as int16, else 8 bits
  bool x_signed;  // 8-bit x as int8, else uint8
  bool more;      // another frame follows
  ap_uint<kXBits> x_words;
  ap_uint<kWBits> w_words;
  bool ended;  // TLAST came too early

  bool fine() const {
    #pragma HLS INLINE
    return magic && version && mode && lanes && length && depth && bits && check && !ended;
  }
  ap_uint<8> status() const {
    #pragma HLS INLINE
    // Of several faults the one that is assigned last counts.
    ap_uint<8> status = bits ? ap_uint<8>(kOk) : ap_uint<8>(kBadBits);
    status = length && depth ? status : ap_uint<8>(kBadLength);
    status = lanes ? status : ap_uint<8>(kBadLanes);
    status = mode ? status : ap_uint<8>(kBadMode);
    status = version ? status : ap_uint<8>(kBadVersion);
    status = magic ? status : ap_uint<8>(kBadMagic);
    status = check ? status : ap_uint<8>(kBadHeaderCheck);
    return ended ? ap_uint<8>(kEarlyEnd) : status;
  }
};

// Take the header and hand it on. Words missing after an early end count as zero.
//
// Each iteration takes a word, judges the one before, and knows what was found up to then: decisions rest on
// registers, never on a word that has just arrived. Hence two iterations more than there are words.
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, int kXBits, int kWBits>
Header<kXBits, kWBits> load_header(hls::stream<Beat>& words_in, Receiver& receiver,
                                   hls::stream<Word>& plan_out) {
  #pragma HLS INLINE
  Header<kXBits, kWBits> header = {};
  Header<kXBits, kWBits> known = {};
  Word next = 0;
header:
  for (int i = -1; i <= kHeaderWords; ++i) {
    #pragma HLS PIPELINE II=1
    known = header;
    header.ended = receiver.ended;
    const Word word = next;
    next = 0;
    if (i < kHeaderWords - 1) {
      if (!receiver.ended) {
        next = receiver.take(words_in);
      }
      plan_out.write(next);
    }
    const ap_uint<8> code = word(31, 24);
    header.magic = i == 0 ? word(15, 0) == kFrameMagic : header.magic;
    header.version = i == 0 ? word(23, 16) == kVersion : header.version;
    header.mode = i == 0 ? code < kModes : header.mode;
    header.identify = i == 0 ? code == kIdentify : header.identify;
    header.msb = i == 0 ? code == kGradMsb : header.msb;
    header.lanes = i == 0 ? word(39, 32) == kIcLanes && word(47, 40) == kOcLanes : header.lanes;
    header.more = i == 0 ? bool(word[48]) : header.more;
    header.x16 = i == 0 ? bool(word[49]) : header.x16;
    header.x_signed = i == 0 ? bool(word[50]) : header.x_signed;

    const ap_uint<32> x_count = word(31, 0);
    const ap_uint<32> w_count = word(63, 32);
    const ap_uint<kXBits> x_words = known.x16 ? x_count * (kIcLanes / 4) : x_count * (kIcLanes / 8);
    const ap_uint<kWBits> w_words = w_count * (kIcLanes / 8);
    header.x_words = i == 1 ? x_words : header.x_words;
    header.w_words = i == 1 ? w_words : header.w_words;
    const bool fits = x_count <= kXDepth && w_count <= kOcLanes * kWDepth;
    const bool none = x_count == 0 && w_count == 0;
    header.length = i == 1 ? fits && (none || !known.identify) : header.length;
    const ap_uint<4> depth = word(35, 32);
    header.depth = i == 3 ? depth >= 1 && depth <= kLevels : header.depth;
    const ap_uint<4> x_kept = word(39, 36);
    const ap_uint<4> g_kept = word(43, 40);
    const bool sound = x_kept >= 1 && x_kept <= kXKept && g_kept >= 1 && g_kept <= kGKept;
    header.bits = i == 3 ? !known.msb || (sound && !known.x16) : header.bits;
    header.check = i == kHeaderWords - 1 ? receiver.sums.s1 == word : header.check;
    receiver.sums.add(word, i < kHeaderWords);
  }
  return known;
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

// Fill the weight buffer: vector i goes to bank i % kOcLanes, row i / kOcLanes.
template <int kIcLanes, int kOcLanes, int kWDepth, int kXBits, int kWBits>
void load_w(hls::stream<Beat>& words_in, Receiver& receiver, const Header<kXBits, kWBits>& header,
            ap_uint<8 * kIcLanes> w_buf[kOcLanes][kWDepth]) {
  #pragma HLS INLINE
  constexpr int kBits = 8 * kIcLanes;
  constexpr int kPart = log2_ceil(kIcLanes / 8);
  constexpr int kBank = log2_ceil(kOcLanes);
  ap_uint<kBits> vector = 0;
w_words:
  for (ap_uint<kWBits> i = 0; i < header.w_words && !receiver.ended; ++i) {
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

// Take the two check words and judge the frame's end; decisions rest on registers, as above.
inline bool load_check(hls::stream<Beat>& words_in, Receiver& receiver, bool more, ap_uint<8>& status) {
  #pragma HLS INLINE
  bool whole = false, good = true, ended = false;
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
    if (i < 2 && !receiver.ended) {
      word = receiver.take(words_in);
      whole = i == 1;
    }
  }
  status = more ? ap_uint<8>(kEarlyEnd) : ap_uint<8>(kLateEnd);
  status = more != known_ended ? ap_uint<8>(kOk) : status;
  status = known_good ? status : ap_uint<8>(kBadFrameCheck);
  status = known_whole ? status : ap_uint<8>(kEarlyEnd);
  return known_whole && known_good && more != known_ended;
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
  const Header<kXBits, kWBits> header =
      load_header<kIcLanes, kOcLanes, kXDepth, kWDepth, kXBits, kWBits>(words_in, receiver, plan_out);
  ap_uint<8> status = header.status();
  bool fine = header.fine();
  if (fine) {
    load_x<kIcLanes, kXDepth>(words_in, receiver, header, x_buf);
    load_w<kIcLanes, kOcLanes, kWDepth>(words_in, receiver, header, w_buf);
    fine = load_check(words_in, receiver, header.more, status);
  }
  const Word verdict = (Word(receiver.words) << 32) | Word(status);
  bool ended = receiver.ended || fine;
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
