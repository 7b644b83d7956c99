// SPDX-License-Identifier: Apache-2.0
// One process takes scalars, and others work with them and with what is computed of them in between.
#include <ap_int.h>
#include <hls_stream.h>

using Words = hls::stream<ap_uint<16>>;

struct Range {
  ap_uint<7> low;
  ap_int<16> gain;
};

static void take(Words& x_in, Range& range, unsigned char& count) {
  range.low = x_in.read();
  range.gain = x_in.read();
  if (range.low[0]) range.gain += 1;
  count = x_in.read() & 7;
}

static void scale(Words& y_in, Words& scaled, const Range& range, int words) {
  for (int i = 0; i < words; ++i) scaled.write(y_in.read() * range.gain);
}

static void shift(Words& scaled, Words& z_out, const ap_uint<7>& low, int words, bool odd) {
  for (int i = 0; i < words; ++i) z_out.write(scaled.read() + low + odd);
}

extern "C" void scalars(Words& x_in, Words& y_in, Words& z_out) {
  #pragma HLS DATAFLOW
  Range range;
  unsigned char count;
  Words scaled;
  take(x_in, range, count);
  const int words = 2 * count + 1;
  scale(y_in, scaled, range, words);
  shift(scaled, z_out, range.low, words, count % 2);
}
