// SPDX-License-Identifier: Apache-2.0
// A word is sent early in a pipeline whose later stage waits for another one: it must not be sent again.
#include <ap_int.h>
#include <hls_stream.h>

extern "C" void repeats(hls::stream<ap_uint<16>>& x_in, hls::stream<ap_int<8>>& z_in,
                        hls::stream<ap_uint<16>>& y_out) {
words:
  for (int i = 0; i < 32; ++i) {
    #pragma HLS PIPELINE II=1
    const ap_uint<16> word = x_in.read();
    y_out.write(word);
    if (ap_uint<32>(word) * word % 13 != 2) z_in.read();  // always, as no square leaves 2
  }
}
