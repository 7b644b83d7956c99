// SPDX-License-Identifier: Apache-2.0
// Results of operations in one word of a stream.
#pragma once

#include <hls_vector.h>

#include "matrix.hpp"

// The place is apart from the limbs, so that it is known when these are turned into registers.
template <int kLimbs>
struct Row {
  hls::vector<ap_uint<64>, kLimbs>& limbs;
  int& at;

  void begin(const char*) {}
  template <typename T>
  void operator()(const char*, const T& value) {
    constexpr int kWidth = WidthOf<T>::value;
    at = placed(at, kWidth);
    put(ap_uint<kWidth>(value), at);
    at += kWidth;
  }
  template <typename T>
  void skip(const char*) {
    at = placed(at, WidthOf<T>::value) + WidthOf<T>::value;
  }

 private:
  template <int kWidth>
  void put(const ap_uint<kWidth>& bits, int place) {
    limbs[place / 64] |= ap_uint<64>(bits) << (place % 64);
    if constexpr (kWidth > 64) {
      put(ap_uint<kWidth - 64>(bits >> 64), place + 64);
    }
  }
};
