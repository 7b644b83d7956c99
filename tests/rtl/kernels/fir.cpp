// SPDX-License-Identifier: Apache-2.0
// FIR filter of eight taps whose delay line lives on between calls. One result per cycle.
#include <ap_int.h>
#include <hls_stream.h>

static constexpr int kTaps = 8;

extern "C" void fir(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<36>>& y_out) {
  #pragma HLS PIPELINE II=1
  static const ap_int<12> coefficients[kTaps] = {3, -11, 40, 311, 311, 40, -11, 3};
  static ap_int<16> delay[kTaps];
  #pragma HLS ARRAY_PARTITION variable=delay complete
  ap_int<36> sum = 0;
taps:
  for (int i = kTaps - 1; i >= 0; --i) {
    #pragma HLS UNROLL
    delay[i] = i == 0 ? x_in.read() : delay[i - 1];
    sum += delay[i] * coefficients[i];
  }
  y_out.write(sum);
}
