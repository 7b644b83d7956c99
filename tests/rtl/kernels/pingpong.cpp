// SPDX-License-Identifier: Apache-2.0
// Reverses packets of 16 words: one process fills a buffer, and updates what it has written, while the other
// empties its twin.
#include <ap_axi_sdata.h>
#include <ap_int.h>
#include <hls_stream.h>

static constexpr int kWords = 16;
using Beat = ap_axiu<24, 0, 0, 0>;

struct Sums {
  ap_uint<24> of[4];
};

static void load(hls::stream<Beat>& x_in, ap_uint<24> buffer[kWords], hls::stream<Sums>& sum_out) {
  Sums sums;
clear:
  for (int i = 0; i < 4; ++i) sums.of[i] = i;
words:
  for (int i = 0; i < kWords; ++i) {
    #pragma HLS PIPELINE II=1
    const ap_uint<24> word = x_in.read().data;
    buffer[i] = word;
    sums.of[i % 4] += word;
  }
update:
  for (int i = 0; i < kWords / 2; ++i) {
    const int at = sums.of[i % 4] % kWords;
    buffer[at] = buffer[at] + buffer[i];
  }
  sum_out.write(sums);
}

static void store(const ap_uint<24> buffer[kWords], hls::stream<Sums>& sum_in, hls::stream<Beat>& y_out) {
  const Sums sums = sum_in.read();
words:
  for (int i = 0; i < kWords; ++i) {
    #pragma HLS PIPELINE II=1
    Beat beat{};
    beat.data = buffer[kWords - 1 - i] + sums.of[i % 4];
    beat.keep = -1;
    beat.strb = -1;
    beat.last = i == kWords - 1;
    y_out.write(beat);
  }
}

extern "C" void pingpong(hls::stream<Beat>& x_in, hls::stream<Beat>& y_out) {
  #pragma HLS INTERFACE axis port=x_in
  #pragma HLS INTERFACE axis port=y_out
  #pragma HLS INTERFACE ap_ctrl_none port=return
  #pragma HLS DATAFLOW
  ap_uint<24> buffer[kWords];
  hls::stream<Sums> sums("sums");
  #pragma HLS STREAM variable=sums depth=4
  load(x_in, buffer, sums);
  store(buffer, sums, y_out);
}
