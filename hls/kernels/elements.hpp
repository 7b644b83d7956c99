// SPDX-License-Identifier: Apache-2.0
// Element-wise operations on a quarter of a pixel. Spec: numerics.affine, numerics.reduce.
#pragma once

#include "messages.hpp"

// Coefficients of four channels in a row.
constexpr int kCoefficientBits = 256;
constexpr int kCoefficientDepth = kCoefficientRows * kPixelLanes / 4;

// How a frame's elements are computed.
struct ElementSettings {
  bool reduce;
  bool mask_x;
  bool mask_out;
  bool x_spread;
  bool w_spread;
  bool v16;
  bool v_signed;
  bool dithers;
  ap_uint<8> phase;  // of the first value
  ap_uint<8> rows;

  void set(const Word& command, const Word& options) {
    #pragma HLS INLINE
    reduce = header::Mode::of(command) == kReduce;
    mask_x = header::MaskX::of(options);
    mask_out = header::MaskOut::of(options);
    x_spread = header::XSpread::of(options);
    w_spread = header::WSpread::of(options);
    v16 = header::WKind::of(options) == kInt16;
    v_signed = header::WKind::of(options) == kInt8;
    dithers = header::Dithers::of(options);
    phase = header::Phase::of(command);
    rows = header::Rows::of(options);
  }
};

// Which quarter of which pixel is next, and the row of its coefficients.
struct ElementPosition {
  ap_uint<2> quarter;
  ap_uint<16> pixel;
  ap_uint<8> row;

  void start() {
    #pragma HLS INLINE
    quarter = 0;
    pixel = 0;
    row = 0;
  }
  ap_uint<log2_ceil(kCoefficientDepth)> coefficient_row() const {
    #pragma HLS INLINE
    return (row << 2) | ap_uint<8>(quarter);
  }
  // Phase of a quarter's first lane, of the pixel at this place. Spec: numerics.dither_phases.
  ap_uint<8> dither(const ElementSettings& how, ap_uint<8> iy, ap_uint<8> ix) const {
    #pragma HLS INLINE
    const ap_uint<8> of_quarter = ap_uint<8>(quarter) * ap_uint<8>(4 * kDitherChannel % 256);
    const ap_uint<8> of_row = row * ap_uint<8>(kPixelLanes * kDitherChannel % 256);
    const ap_uint<8> of_pixel = iy * ap_uint<8>(kDitherRow) + ix * ap_uint<8>(kDitherColumn);
    return how.phase + of_quarter + of_row + of_pixel;
  }
  void step(bool plane_ends, ap_uint<8> rows) {
    #pragma HLS INLINE
    const bool last_row = row + 1 == rows;
    row = plane_ends ? last_row ? ap_uint<8>(0) : ap_uint<8>(row + 1) : row;
    pixel += quarter == 3;
    quarter += 1;
  }
};

// 64 of 256 bits, or 32 of 128.
template <int kBits>
ap_uint<kBits / 4> quarter_of(ap_uint<kBits> whole, ap_uint<2> quarter) {
  #pragma HLS INLINE
  ap_uint<kBits / 4> choices[4];
quarters:
  for (int i = 0; i < 4; ++i) {
    #pragma HLS UNROLL
    choices[i] = whole((i + 1) * (kBits / 4) - 1, i * (kBits / 4));
  }
  return mux_tree<4>(choices, quarter);
}

// The operands of a quarter: four lanes of 16 bits, zero where a spread one has no pixel.
struct Quarter {
  ap_uint<64> u;
  ap_uint<64> v;
  ap_uint<4> open;

  // An int16 pixel of v takes two vectors, `even` and `odd`, one of 8 bits takes `one`.
  template <int kVector>
  void take(const ElementSettings& how, ap_uint<2> quarter, ap_uint<256> x, ap_uint<kVector> even,
            ap_uint<kVector> odd, ap_uint<kVector> one, ap_uint<16> mask, bool off_grid) {
    #pragma HLS INLINE
    const ap_uint<32> bytes = quarter_of<128>(one, quarter);
    ap_uint<64> widened;
  lanes:
    for (int i = 0; i < 4; ++i) {
      #pragma HLS UNROLL
      const bool negative = how.v_signed && bytes[8 * i + 7];
      widened(16 * i + 7, 16 * i) = bytes(8 * i + 7, 8 * i);
      widened(16 * i + 15, 16 * i + 8) = negative ? 0xFF : 0;
    }
    const ap_uint<64> second =
        how.v16 ? quarter_of<256>((ap_uint<256>(odd) << 128) | ap_uint<256>(even), quarter) : widened;
    u = how.x_spread && off_grid ? ap_uint<64>(0) : quarter_of<256>(x, quarter);
    v = how.w_spread && off_grid ? ap_uint<64>(0) : second;
    const bool masks = how.mask_x || how.mask_out;
    open = masks ? quarter_of<16>(mask, quarter) : ap_uint<4>(15);
  }
};

// a*u + b*v + d, or of reduce u, with v for the products.
inline Elements compute_elements(const ElementSettings& how, const Quarter& from, ap_uint<256> coefficients,
                                 ap_uint<8> phase, bool last) {
  #pragma HLS INLINE
  Elements out;
lanes:
  for (int i = 0; i < 4; ++i) {
    #pragma HLS UNROLL
    const Word word = coefficients(64 * i + 63, 64 * i);
    const bool open = from.open[i];
    const ap_int<16> whole = from.u(16 * i + 15, 16 * i);
    const ap_int<16> u = open || !how.mask_x ? whole : ap_int<16>(0);
    const ap_int<16> v = from.v(16 * i + 15, 16 * i);
    const ap_int<34> sum =
        coefficient::A::of(word) * u + coefficient::B::of(word) * v + coefficient::D::of(word);
    out.value[i] = how.reduce ? ap_int<34>(u) : sum;
    out.other[i] = v;
    out.closed[i] = how.mask_out && !open;
  }
  out.dithers = how.dithers && !how.reduce;
  out.phase = phase;
  out.last = last;
  return out;
}
