// SPDX-License-Identifier: Apache-2.0
#pragma once

constexpr int kFractionBits = 9;

// Divide by 2**shift, add `added` / 512 and round down, in two steps. Spec: numerics.round_shift where that
// is a half, else numerics.dithered_shift. What is added comes behind the shifter, so that none decodes a
// half. Its 64 bits take any shift of six, so that nothing compares the shift with a width.
template <int kBits>
struct RoundShift {
  ap_int<kBits + kFractionBits> fixed;  // raw >> shift, and the highest bits shifted out
  ap_uint<kFractionBits> added;

  void take(ap_int<kBits> raw, ap_uint<6> shift, ap_uint<kFractionBits> part) {
    #pragma HLS INLINE
    static_assert(kBits + kFractionBits <= 64, "RoundShift: the number and its fraction must fit 64 bits");
    fixed = (ap_int<64>(raw) << kFractionBits) >> shift;
    added = part;
  }
  bool negative() const {
    #pragma HLS INLINE
    return fixed < 0;
  }
  ap_int<kBits> rounded() const {
    #pragma HLS INLINE
    return (fixed + added) >> kFractionBits;
  }
};

// Clamp to kTo bits; `clamped` tells whether the number did not fit. Spec: numerics.saturate.
template <int kTo, int kFrom>
ap_int<kTo> saturate(ap_int<kFrom> raw, bool& clamped) {
  #pragma HLS INLINE
  const ap_int<kTo> low = raw;
  const bool negative = raw[kFrom - 1];
  clamped = raw != ap_int<kFrom>(low);
  const ap_int<kTo> most = (ap_int<kTo + 1>(1) << (kTo - 1)) - 1;
  const ap_int<kTo> limit = negative ? ap_int<kTo>(~most) : most;
  return clamped ? limit : low;
}

// The high bits of a number, where they are: rounded, or cut off where rounding up would leave their range.
// Spec: numerics.keep_high.
//
//   half  of the last kept bit
//   mask  of the kept bits
//   end   the first number above the range
template <int kBits>
ap_int<kBits> keep_high(ap_int<kBits> raw, ap_int<kBits> half, ap_int<kBits> mask, ap_int<kBits + 1> end) {
  #pragma HLS INLINE
  const ap_int<kBits + 1> rounded = raw + half;
  return (rounded < end ? ap_int<kBits>(rounded) : raw) & mask;
}
