// SPDX-License-Identifier: Apache-2.0
// Rows and fields of arrays between processes.
#include <ap_int.h>
#include <hls_stream.h>

using Byte = ap_uint<8>;
using Bytes = hls::stream<Byte>;

struct Both {
  Byte low[4], high[4];
};

static void fill(Bytes& x_in, Byte rows[2][4], Byte low[4], Byte high[4]) {
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j) rows[i][j] = x_in.read();
  for (int j = 0; j < 4; ++j) {
    low[j] = x_in.read();
    high[3 - j] = x_in.read();
  }
}

static void drain(const Byte first[4], const Byte second[4], const Byte low[4], const Byte high[4],
                  Bytes& y_out) {
  for (int j = 0; j < 4; ++j) {
    y_out.write(first[(3 * j + 1) & 3] + second[3 - j]);
    y_out.write(low[(j + 1) & 3] + 3 * high[j]);
  }
}

void rows_between(Bytes& x_in, Bytes& y_out) {
#pragma HLS DATAFLOW
  Byte rows[2][4];
  Both both;
  fill(x_in, rows, both.low, both.high);
  drain(rows[0], rows[1], both.low, both.high, y_out);
}
