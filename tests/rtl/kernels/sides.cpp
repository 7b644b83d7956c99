// SPDX-License-Identifier: Apache-2.0
// A video stream: TUSER starts a frame, TKEEP thins out bytes; TDEST comes out, TID and TSTRB go nowhere.
#include <ap_axi_sdata.h>
#include <ap_int.h>
#include <hls_stream.h>

using In = ap_axiu<32, 1, 3, 0>;
using Out = ap_axiu<16, 0, 0, 70>;

void number(hls::stream<In>& in, hls::stream<In>& middle) {
  #pragma HLS PIPELINE II=1
  static ap_uint<8> frame = 0;
  In beat = in.read();
  if (beat.user) ++frame;
  beat.strb = beat.keep & 5;
  beat.data(7, 0) = frame;
  middle.write(beat);
}

void send(hls::stream<In>& middle, hls::stream<Out>& out) {
  #pragma HLS PIPELINE II=1
  const In beat = middle.read();
  Out word;
  word.data = beat.data;
  word.keep = beat.strb | 1;
  word.strb = -1;
  word.last = beat.last;
  word.dest = (ap_uint<38>(beat.data), beat.data);
  out.write(word);
}

extern "C" void sides(hls::stream<ap_axiu<32, 1, 3, 0>>& x_in, hls::stream<ap_axiu<16, 0, 0, 70>>& y_out) {
  #pragma HLS DATAFLOW
  hls::stream<In> middle;
  number(x_in, middle);
  send(middle, y_out);
}
