// SPDX-License-Identifier: Apache-2.0
// Two ways through one process, neither of which waits for the other: whatever comes first, each output gets
// the words of its input. A stream within the process, and words dealt out in turn and collected again.
#include <hls_np_channel.h>
#include <hls_stream.h>

using Word = short;

static void both(hls::stream<Word>& x_in, hls::stream<Word>& y_in, hls::stream<Word>& x_out,
                 hls::stream<Word>& y_out) {
  for (int i = 0; i < 3; ++i) {
    #pragma HLS PIPELINE II=1
    if (!x_in.empty() && !x_out.full()) x_out.write_nb(x_in.read() + 1);
    Word y;
    if (!y_out.full() && y_in.read_nb(y)) y_out.write(y * 3);
  }
}

static void back(hls::stream<Word>& in, hls::stream<Word>& out) {
  hls::stream<Word> kept;
  for (int i = 0; i < 3; ++i) kept.write(in.read());
  for (int i = 0; i < 3; ++i) out.write(kept.read() - i);
}

static void negate(hls::stream<Word, 4>& in, hls::stream<Word, 4>& out) { out.write(-in.read()); }

static void deal(hls::stream<Word>& in, hls::stream<Word, 4>& out) {
  for (int i = 0; i < 3; ++i) out.write(in.read());
}

static void collect(hls::stream<Word, 4>& in, hls::stream<Word>& out) {
  for (int i = 0; i < 3; ++i) out.write(in.read());
}

extern "C" void polls(hls::stream<Word>& x_in, hls::stream<Word>& y_in, hls::stream<Word>& x_out,
                      hls::stream<Word>& y_out, hls::stream<Word>& z_in, hls::stream<Word>& z_out) {
  #pragma HLS DATAFLOW
  hls::stream<Word> apart;
  hls::split::round_robin<Word, 3, 4> dealt;
  hls::merge::round_robin<Word, 3, 4> collected;
  both(x_in, y_in, x_out, y_out);
  back(z_in, apart);
  deal(apart, dealt.in);
  for (int i = 0; i < 3; ++i) {
    #pragma HLS UNROLL
    negate(dealt.out[i], collected.in[i]);
  }
  collect(collected.out, z_out);
}
