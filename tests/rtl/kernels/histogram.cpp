// SPDX-License-Identifier: Apache-2.0
// How often each of 64 words came, until there were 20 of it. A word may come again at once, so that what the
// pragmas promise is not true: the RTL must not rely on it.
#include <ap_int.h>
#include <hls_stream.h>

static constexpr int kWords = 64;
static constexpr int kBins = 16;

extern "C" void histogram(hls::stream<ap_uint<4>>& x_in, hls::stream<ap_uint<8>>& count_out) {
  ap_uint<8> counts[kBins];
  #pragma HLS DEPENDENCE variable=counts inter WAR false
  #pragma HLS DEPENDENCE variable=counts intra RAW false
clear:
  for (int bin = 0; bin < kBins; ++bin) {
    #pragma HLS PIPELINE II=1
    counts[bin] = 0;
  }
words:
  for (int i = 0; i < kWords; ++i) {
    #pragma HLS PIPELINE II=1
    #pragma HLS DEPENDENCE variable=counts type=inter dependent=false
    const ap_uint<4> bin = x_in.read();
    if (counts[bin] < 20) counts[bin] = counts[bin] + 1;
    count_out.write(counts[bin]);
  }
results:
  for (int bin = 0; bin < kBins; ++bin) {
    #pragma HLS PIPELINE II=1
    count_out.write(counts[bin]);
  }
}
