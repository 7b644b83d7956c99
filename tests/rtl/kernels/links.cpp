// SPDX-License-Identifier: Apache-2.0
// Two tables, each written with what was read from the other at the place that the first one names: an
// iteration every other cycle, of which each may need what the two before it wrote.
#include <ap_int.h>
#include <hls_stream.h>

static constexpr int kWords = 64;
static constexpr int kNodes = 16;

extern "C" void links(hls::stream<ap_uint<4>>& x_in, hls::stream<ap_uint<8>>& link_out) {
  ap_uint<4> next[kNodes];
  ap_uint<4> back[kNodes];
reset:
  for (int node = 0; node < kNodes; ++node) {
    #pragma HLS PIPELINE II=2
    next[node] = node;
    back[node] = 15 - node;
  }
words:
  for (int i = 0; i < kWords; ++i) {
    #pragma HLS PIPELINE II=2
    const ap_uint<4> node = x_in.read();
    const ap_uint<4> to = next[node];
    const ap_uint<4> from = back[to];
    next[node] = from + 1;
    back[node] = to + i;
    link_out.write(to * 16 + from);
  }
}
