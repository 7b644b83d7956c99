// SPDX-License-Identifier: Apache-2.0
// Two accesses to one memory in each iteration: two reads, two writes, a read and a write.
#include <ap_int.h>
#include <hls_stream.h>

extern "C" void ports(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<32>>& y_out) {
  static ap_int<24> held[48];
pairs:
  for (int i = 0; i < 48; i += 2) {
    #pragma HLS PIPELINE II=1
    const ap_int<16> word = x_in.read();
    held[i] = word;
    held[ap_uint<1>(word) ? i : i + 1] = word * 3;  // perhaps the same place
  }
sums:
  for (int i = 0; i < 47; ++i) {
    #pragma HLS PIPELINE II=1
    y_out.write(held[i] - held[i + 1]);
  }
places:
  for (int i = 0; i < 40; ++i) {
    #pragma HLS PIPELINE II=1
    const ap_int<16> word = x_in.read();
    const ap_uint<5> to = word, from = word >> 5;
    if (word < 0) held[to] = word;
    if (word & 1) y_out.write(held[from]);  // perhaps what was just written
  }
choices:
  for (int i = 0; i < 40; ++i) {
    #pragma HLS PIPELINE II=1
    const ap_int<16> word = x_in.read();
    const ap_uint<5> one = word, other = word >> 5;
    ap_int<24> found = held[one];
    if (word < 0) {
      held[other] = i;
    } else {
      found -= held[other];
    }
    y_out.write(found);
  }
}
