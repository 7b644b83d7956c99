// SPDX-License-Identifier: Apache-2.0
// Arrays in parts, loops unrolled in part, and none that asks for an interval: memories are read, changed and
// read again as often as the source likes.
#include <ap_int.h>
#include <hls_stream.h>

static constexpr int kWords = 24;
static constexpr int kRows = 7;

using Word = ap_int<16>;

template <int kFactor>
static void smooth(const Word x[kWords], Word y[kWords]) {
  for (int i = 1; i < kWords - 1; ++i) {
    #pragma HLS UNROLL factor=kFactor
    #pragma HLS if (kFactor > 100) PIPELINE off
    y[i] = x[i - 1] + 2 * x[i] + x[i + 1];
  }
}

extern "C" void parts(hls::stream<Word>& x_in, hls::stream<Word>& y_out) {
  #pragma HLS LATENCY max=100
  static Word history[kRows] = {1, 2, 3, 4, 5, 6, 7};
  #pragma HLS ARRAY_PARTITION variable=history block factor=3
  Word x[kWords], y[kWords], counts[8];
  #pragma HLS ARRAY_PARTITION variable=x cyclic factor=4
  #pragma HLS ARRAY_RESHAPE variable=y type=cyclic factor=3 dim=1
  for (int i = 0; i < kWords; ++i) x[i] = x_in.read();
  for (int i = 0; i < 8; ++i) counts[i] = 0;
  y[0] = x[0];
  y[kWords - 1] = x[kWords - 1];
  smooth<4>(x, y);
words:
  for (int i = 0; i < kWords; ++i) {
    const Word divisor = y[i] / 3 | 1;
    counts[y[i] & 7] += x[i] / divisor;
    history[i % kRows] += counts[y[i] & 7] + counts[x[i] & 7] % divisor;
    counts[history[(i + 1) % kRows] & 7]++;
  }
  for (int i = 0; i < kWords; ++i) {
    #pragma HLS PIPELINE
    y_out.write(y[i] + counts[i & 7] + history[i % kRows]);
  }
}
