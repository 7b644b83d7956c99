// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "frame.hpp"
#include "mux_tree.hpp"

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

// The parts of a payload, in the order in which they arrive.
constexpr int kCoefficients = 0;
constexpr int kX = 1;
constexpr int kW = 2;
constexpr int kMask = 3;
constexpr int kParts = 4;

// The words of a part that are to come. Flags begin and end a part, not comparisons.
template <int kBits>
struct Part {
  ap_uint<kBits> left;
  bool any;
  bool last;

  void start(ap_uint<kBits> count) {
    #pragma HLS INLINE
    left = count;
    any = count != 0;
    last = count == 1;
  }
  void step() {
    #pragma HLS INLINE
    last = left == 2;
    left -= 1;
  }
};

// Whether the frame before holds its report back, and of how many planes.
struct Held {
  bool any;
  ap_uint<8> planes;
};

// What load itself needs of the header, and what it thinks of it.
template <int kBits>
struct Header {
  bool magic, version, mode, lanes, length, kinds, bits, turn, check;  // right or wrong
  bool identify, dot, outer, affine, elements, msb;                    // modes
  bool more;                                                           // another frame follows
  bool holds;                                                          // which reports for this one too
  ap_uint<8> planes;
  bool unchecked;       // no check words follow the payload
  bool x16;             // x as int16, else 8 bits
  bool x_signed;        // 8-bit x as int8, else uint8
  bool paired_weights;  // rows of weights have all banks
  bool single_weights;  // or half of them
  bool mask_signed;
  ap_uint<16> mask_limit;
  Part<kBits> parts[kParts];
  bool ended;  // TLAST came too early

  bool fine() const {
    #pragma HLS INLINE
    return magic && version && mode && lanes && length && kinds && bits && turn && check && !ended;
  }
  ap_uint<8> status() const {
    #pragma HLS INLINE
    // Of several faults the one that is assigned last counts.
    ap_uint<8> status = turn ? ap_uint<8>(kStatusOk) : ap_uint<8>(kStatusHeld);
    status = bits ? status : ap_uint<8>(kStatusBits);
    status = kinds ? status : ap_uint<8>(kStatusKind);
    status = length ? status : ap_uint<8>(kStatusLength);
    status = lanes ? status : ap_uint<8>(kStatusLanes);
    status = mode ? status : ap_uint<8>(kStatusMode);
    status = version ? status : ap_uint<8>(kStatusVersion);
    status = magic ? status : ap_uint<8>(kStatusMagic);
    status = check ? status : ap_uint<8>(kStatusHeaderCheck);
    return ended ? ap_uint<8>(kStatusEarlyEnd) : status;
  }

  // Word 0: what is asked.
  template <int kIcLanes, int kOcLanes>
  void take_command(const Word& word) {
    #pragma HLS INLINE
    const ap_uint<8> code = header::Mode::of(word);
    magic = header::Magic::of(word) == kFrameMagic;
    version = header::Version::of(word) == kVersion;
    mode = code < kModes;
    lanes = header::IcLanes::of(word) == kIcLanes && header::OcLanes::of(word) == kOcLanes;
    identify = code == kIdentify;
    dot = code == kForward || code == kGradInput;
    outer = code == kGradWeight || code == kGradMsb;
    msb = code == kGradMsb;
    affine = code == kAffine;
    elements = code == kAffine || code == kReduce;
  }

  // Word 1: options and kinds.
  void take_options(const Word& word, const Held& held) {
    #pragma HLS INLINE
    more = header::More::of(word);
    holds = header::Holds::of(word);
    planes = header::Planes::of(word);
    turn = (!holds || (more && !identify)) && (!held.any || (planes == held.planes && !identify));
    unchecked = header::Unchecked::of(word);
    mask_signed = header::MaskSigned::of(word);
    const ap_uint<3> x_kind = header::XKind::of(word);
    const ap_uint<3> w_kind = header::WKind::of(word);
    const ap_uint<3> result = header::Result::of(word);
    x16 = x_kind == kInt16;
    x_signed = x_kind == kInt8;
    paired_weights = dot && x_kind != kInt16;
    single_weights = dot && x_kind == kInt16;
    const bool w8 = w_kind == kInt8;
    const bool w16 = w_kind == kInt16;
    const bool known_kinds = x_kind <= kInt16 && w_kind <= kInt16;
    const bool of_elements = !elements || result <= kInt16;
    const bool of_dot = !dot || (w8 && result <= kInt64);
    const bool of_outer = !outer || (w16 && !msb) || ((w8 || w16) && !x16);
    kinds = known_kinds && of_elements && of_dot && of_outer;

    const ap_uint<4> x_kept = header::XBits::of(word);
    const ap_uint<4> g_kept = header::GBits::of(word);
    const ap_uint<4> most_x = w16 ? kXKept : 8;
    const ap_uint<4> most_g = w16 ? kGKept : 8;
    bits = !msb || (x_kept >= 1 && x_kept <= most_x && g_kept >= 1 && g_kept <= most_g);

    const ap_uint<4> depth = header::Depth::of(word);
    const ap_uint<8> rows = header::Rows::of(word);
    parts[kCoefficients].start(ap_uint<9>(rows) * kPixelLanes);
    const bool summed = elements || (dot && result <= kInt16);
    length = depth >= 1 && depth <= kLevels && rows <= kCoefficientRows && (rows != 0 || !affine) &&
             planes <= kMostPlanes && (planes == 0 || summed) && !(identify && (rows != 0 || planes != 0));
  }

  // Word 2: lengths of the operands.
  template <int kIcLanes, int kXDepth, int kWVectors>
  void take_lengths(const Word& word) {
    #pragma HLS INLINE
    const ap_uint<32> x_count = header::XCount::of(word);
    const ap_uint<32> w_count = header::WCount::of(word);
    parts[kX].start(x16 ? x_count * (kIcLanes / 4) : x_count * (kIcLanes / 8));
    parts[kW].start(w_count * (kIcLanes / 8));
    const bool none = x_count == 0 && w_count == 0;
    length = length && x_count <= kXDepth && w_count <= kWVectors && (none || !identify);
  }

  // Word 3: length of the mask.
  template <int kXDepth>
  void take_mask_length(const Word& word) {
    #pragma HLS INLINE
    const ap_uint<32> mask_count = header::MaskCount::of(word);
    parts[kMask].start(mask_count * (kPixelLanes / 8));
    length = length && mask_count <= kXDepth && (mask_count == 0 || !identify);
  }
};

// Take the header and hand it on. Words missing after an early end count as zero.
//
// Each iteration takes a word, judges the one before, and knows what was found up to then: decisions rest on
// registers, never on a word that has just arrived. Hence two iterations more than there are words. Which one
// it is, one bit of `turn` tells: a counter would have to be compared with every word's number.
template <int kIcLanes, int kOcLanes, int kXDepth, int kWDepth, int kBits>
Header<kBits> load_header(hls::stream<Beat>& words_in, Receiver& receiver, const Held& held,
                          hls::stream<Word>& plan_out) {
  #pragma HLS INLINE
  static_assert(header::XKind::word == header::Depth::word && header::XCount::word == header::WCount::word,
                "load_header: a word is judged as a whole");
  Header<kBits> header = {};
  Header<kBits> known = {};
  Word next = 0;
  bool words = true;  // the turn is one of a word
  bool takes = true;  // and there is one
  constexpr int kTurns = kHeaderWords + 2;
header:
  for (ap_uint<kTurns + 1> turn = 1; !turn[kTurns]; turn <<= 1) {
    #pragma HLS PIPELINE II=1
    const ap_uint<kHeaderWords> judged = turn >> 1;  // bit i while word i is judged
    known = header;
    header.ended = receiver.ended;
    const Word word = next;
    next = 0;
    if (takes) {
      next = receiver.take(words_in);
    }
    if (words) {
      plan_out.write(next);
    }
    words = words && !turn[kHeaderWords - 1];
    takes = words && !receiver.ended;
    if (judged[header::Mode::word]) {
      header.template take_command<kIcLanes, kOcLanes>(word);
    } else if (judged[header::XKind::word]) {
      header.take_options(word, held);
    } else if (judged[header::XCount::word]) {
      header.template take_lengths<kIcLanes, kXDepth, kOcLanes * kWDepth>(word);
    } else if (judged[header::MaskCount::word]) {
      header.template take_mask_length<kXDepth>(word);
    } else if (judged[header::MaskLimit::word]) {
      header.mask_limit = header::MaskLimit::of(word);
    } else if (judged[kHeaderWords - 1]) {
      header.check = receiver.sums.s1 == word;
    }
    receiver.sums.add(word, !turn[kTurns - 1]);
  }
  return known;
}
