// SPDX-License-Identifier: Apache-2.0
// Words that are structs with arrays in them.
#include <ap_int.h>
#include <hls_stream.h>

struct Row {
  ap_int<5> a[3];
  bool b;
  unsigned char c[2][2];
  ap_uint<9> d;
  int e;
  ap_int<4> f, g, h, i;
};

extern "C" void rows(hls::stream<Row>& x_in, hls::stream<Row>& y_out) {
  Row row = x_in.read();
  row.a[1] = row.a[0] + row.a[2];
  row.c[1][0] = row.c[0][1];
  row.i = row.f;
  y_out.write(row);
}
