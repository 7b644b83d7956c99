// SPDX-License-Identifier: Apache-2.0
// Product of two 8x8 matrices, each read row by row into a local RAM.
#include <ap_int.h>
#include <hls_stream.h>

static constexpr int kSize = 8;

extern "C" void matmul(hls::stream<ap_int<8>>& ab_in, hls::stream<ap_int<20>>& c_out) {
  ap_int<8> a[kSize][kSize];
  ap_int<8> b[kSize][kSize];
load_a:
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j < kSize; ++j) {
      #pragma HLS PIPELINE II=1
      a[i][j] = ab_in.read();
    }
  }
load_b:
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j < kSize; ++j) {
      #pragma HLS PIPELINE II=1
      b[i][j] = ab_in.read();
    }
  }
rows:
  for (int i = 0; i < kSize; ++i) {
  columns:
    for (int j = 0; j < kSize; ++j) {
      ap_int<20> sum = 0;
    terms:
      for (int k = 0; k < kSize; ++k) {
        #pragma HLS PIPELINE II=1
        sum += a[i][k] * b[k][j];
      }
      c_out.write(sum);
    }
  }
}
