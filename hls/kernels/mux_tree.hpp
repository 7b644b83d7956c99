// SPDX-License-Identifier: Apache-2.0
#pragma once

constexpr int log2_ceil(int n) { return n <= 1 ? 0 : 1 + log2_ceil((n + 1) / 2); }
constexpr bool is_power_of_2(int n) { return n > 0 && (n & (n - 1)) == 0; }

// choices[index] as a tree of multiplexers: an array indexed by a variable would become a memory.
//
//   kCount  number of choices, a power of two; choices is overwritten
template <int kCount, typename T, typename Index>
T mux_tree(T choices[kCount], Index index) {
  #pragma HLS INLINE
  static_assert(is_power_of_2(kCount), "mux_tree: kCount must be a power of two");
  Index rest = index;
halvings:
  for (int left = kCount / 2; left > 0; left /= 2) {
    #pragma HLS UNROLL
    const bool odd = rest[0];
  pairs:
    for (int i = 0; i < left; ++i) {
      #pragma HLS UNROLL
      choices[i] = odd ? choices[2 * i + 1] : choices[2 * i];
    }
    rest >>= 1;
  }
  return choices[0];
}
