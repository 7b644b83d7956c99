// SPDX-License-Identifier: Apache-2.0
#pragma once

// Divide by 2**shift, rounding halves up, in two steps. Spec: numerics.round_shift.
// (raw + half) >> shift equals raw >> shift plus the highest bit shifted out: one shifter, no decoder for
// half. Its 64 bits take any shift of six, so that nothing compares the shift with a width.
template <int kBits>
struct RoundShift {
  ap_int<kBits + 1> doubled;  // raw >> shift, and the highest bit shifted out

  void take(ap_int<kBits> raw, ap_uint<6> shift) {
    #pragma HLS INLINE
    static_assert(kBits < 64, "RoundShift: the number and the bit below it must fit 64 bits");
    doubled = (ap_int<64>(raw) << 1) >> shift;
  }
  ap_int<kBits> rounded() const {
    #pragma HLS INLINE
    return (doubled >> 1) + ap_int<2>(doubled & 1);
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
