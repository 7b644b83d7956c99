// SPDX-License-Identifier: Apache-2.0
// Sum of two streams, word by word, for as long as words come; TLAST is that of a_in.
#include <ap_axi_sdata.h>
#include <ap_int.h>
#include <hls_stream.h>

using Beat = ap_axiu<32, 0, 0, 0>;

extern "C" void vadd(hls::stream<Beat>& a_in, hls::stream<Beat>& b_in, hls::stream<Beat>& sum_out) {
  #pragma HLS INTERFACE axis port=a_in
  #pragma HLS INTERFACE axis port=b_in
  #pragma HLS INTERFACE axis port=sum_out
  #pragma HLS INTERFACE ap_ctrl_none port=return
  #pragma HLS PIPELINE II=1
  const Beat a = a_in.read();
  const Beat b = b_in.read();
  Beat sum = a;
  sum.data = a.data + b.data;
  sum_out.write(sum);
}
