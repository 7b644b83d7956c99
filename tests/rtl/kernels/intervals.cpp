// SPDX-License-Identifier: Apache-2.0
// Loops that ask for an interval beside loops that take what they need, in one process and in two.
#include <ap_int.h>
#include <hls_stream.h>

using Counts = ap_int<32>[64];

// What is written depends on what the same memory holds, at the same place and at another one.
static void count(hls::stream<ap_int<16>>& x_in, Counts counts) {
  Counts own;
clear:
  for (int i = 0; i < 64; ++i) {
    #pragma HLS PIPELINE II=1
    own[i] = i;
  }
add:
  for (int i = 0; i < 32; ++i) {
    const ap_int<16> word = x_in.read();
    const ap_uint<6> at = word;
    own[at] = own[at] + word;
  }
subtract:
  for (int i = 0; i < 32; ++i) {
    #pragma HLS PIPELINE
    const ap_uint<12> places = x_in.read();
    const ap_uint<6> to = places, from = places >> 6;
    own[to] = own[to] - own[from];
  }
give:
  for (int i = 0; i < 64; ++i) {
    #pragma HLS PIPELINE II=1
    counts[i] = own[i];
  }
}

static void send(const Counts counts, hls::stream<ap_int<32>>& y_out) {
  ap_int<32> sum = 0;
sums:
  for (int i = 0; i < 62; ++i) {
    #pragma HLS PIPELINE II=4
    sum += counts[i] - counts[i + 2] * counts[i + 1];
    y_out.write(sum);
  }
all:
  for (int i = 0; i < 64; ++i) {
    #pragma HLS PIPELINE II=1
    y_out.write(counts[i]);
  }
}

extern "C" void intervals(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<32>>& y_out) {
  #pragma HLS DATAFLOW
  Counts counts;
  count(x_in, counts);
  send(counts, y_out);
}
