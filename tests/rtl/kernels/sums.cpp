// SPDX-License-Identifier: Apache-2.0
// Sixteen running sums of 64 words. The table is read and written by one iteration; its entries are visited in
// turn, so no iteration reads what the one before it wrote.
#include <ap_int.h>
#include <hls_stream.h>

static constexpr int kWords = 64;
static constexpr int kBins = 16;

extern "C" void sums(hls::stream<ap_uint<4>>& x_in, hls::stream<ap_uint<24>>& sums_out) {
  static ap_uint<24> table[kBins];
  #pragma HLS DEPENDENCE variable=table type=inter dependent=false
rounds:
  for (int round = 0; round < kWords / kBins; ++round) {
  bins:
    for (int bin = 0; bin < kBins; ++bin) {
      #pragma HLS PIPELINE II=1
      const ap_uint<24> old = table[bin];
      table[bin] = old * 3 + x_in.read();
    }
  }
results:
  for (int bin = 0; bin < kBins; ++bin) {
    #pragma HLS PIPELINE II=1
    sums_out.write(table[kBins - 1 - bin]);
  }
}
