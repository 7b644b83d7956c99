// SPDX-License-Identifier: Apache-2.0
// Histograms in arrays that are set and copied as a whole before they are used.
#include <ap_int.h>
#include <hls_stream.h>

extern "C" void fills(hls::stream<ap_uint<10>>& x_in, hls::stream<ap_int<20>>& y_out) {
  ap_int<20> sums[4][8] = {};
  ap_int<20> other[5] = {1, 2, 3, 4, 5};
count:
  for (int i = 0; i < 100; ++i) {
    #pragma HLS PIPELINE II=2
    const ap_uint<10> x = x_in.read();
    sums[x(4, 3)][x(2, 0)] += x(9, 5);
    other[x % 5] += 1;
  }
send:
  for (int i = 0; i < 32; ++i) {
    #pragma HLS PIPELINE
    y_out.write(sums[i / 8][i % 8] + other[i % 5]);
  }
}
