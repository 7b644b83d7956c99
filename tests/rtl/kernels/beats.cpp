// SPDX-License-Identifier: Apache-2.0
// Beats with data of several kinds: fixed point and complex numbers, vectors that are computed with;
// processes under a DATAFLOW function within another, with a stream chosen by a variable.
#include <ap_axi_sdata.h>
#include <ap_fixed.h>
#include <hls_stream.h>
#include <hls_vector.h>

#include <complex>

using Value = ap_fixed<12, 5, AP_RND_CONV, AP_SAT>;
using Narrow = ap_ufixed<7, 3, AP_TRN_ZERO, AP_SAT_ZERO>;
using Four = hls::vector<Value, 4>;
using Beat = hls::axis<std::complex<short>, 4, 0, 0, AXIS_ENABLE_DATA | AXIS_ENABLE_LAST | AXIS_ENABLE_USER>;

static void split(hls::stream<Beat>& in, hls::stream<Beat>& beats, hls::stream<Value, 4> (&values)[3]) {
  for (int i = 0; i < 6; ++i) {
    #pragma HLS PIPELINE II=1
    const Beat beat = in.read();
    values[i % 3].write(Value::from(ap_uint<12>(beat.data.real()).bits()));
    beats.write(beat);
  }
}

static void join(hls::stream<Value, 4> (&values)[3], hls::stream<Four>& fours) {
  for (int i = 0; i < 2; ++i) {
    Four four(0.75);
    for (int at = 0; at < 3; ++at) {
      #pragma HLS PIPELINE
      four[at] = values[at].read();
    }
    fours.write((four + four * Value(0.5) - Value(1)) & Four(-0.0625));
  }
}

static void both(hls::stream<Beat>& in, hls::stream<Beat>& beats, hls::stream<Four>& fours) {
  #pragma HLS DATAFLOW
  hls::stream<Value, 4> values[3];
  split(in, beats, values);
  join(values, fours);
}

static void finish(hls::stream<Beat>& beats, hls::stream<Four>& fours, hls::stream<Beat>& out) {
  #pragma HLS INLINE off
  #pragma HLS INTERFACE ap_fifo port=out
  Narrow sum = 0;
  Four four;
  for (int i = 0; i < 6; ++i) {
    #pragma HLS PIPELINE II=1
    if (i % 3 == 0) four = fours.read();
    sum += four.reduce_add() / Value(3.5);
    Beat beat = beats.read();
    if (four[i % 4] < -sum) beat.data.imag(beat.data.imag() + sum.to_int());
    beat.set_user(beat.get_user() + 1);
    beat.data.real((sum << 2).range(6, 0));
    out.write(beat);
  }
}

extern "C" void beats(hls::stream<Beat>& x_in, hls::stream<Beat>& y_out) {
  #pragma HLS INTERFACE mode=axis port=x_in register_mode=both
  #pragma HLS INTERFACE axis port=y_out
  #pragma HLS INTERFACE ap_ctrl_none port=return
  #pragma HLS DATAFLOW
  hls::stream<Beat, 8> beats;
  hls::stream<Four> fours;
  both(x_in, beats, fours);
  finish(beats, fours, y_out);
}
