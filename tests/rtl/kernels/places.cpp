// SPDX-License-Identifier: Apache-2.0
// Places in arrays of several dimensions and in structs: neighbours, windows, rows, fields, range-for.
#include <ap_int.h>
#include <hls_stream.h>

using Byte = ap_uint<8>;
using Bytes = hls::stream<Byte>;

struct Halves {
  Byte low[4], high[4];
};

struct Pair {
  Byte key;
  Byte values[3];
};

struct Filter {
  Byte taps[8];
  ap_uint<16> sum;
  ap_uint<3> next;

  ap_uint<16> step(Byte x) {
#pragma HLS ARRAY_PARTITION variable = taps complete
    taps[next++] = x;
    sum = 0;
    for (Byte tap : taps) sum = 3 * sum + tap;
    return sum;
  }
};

static ap_uint<16> of_row(const Byte row[8], int shift) {
  ap_uint<16> sum = 0;
  for (int i = 0; i < 8; ++i) sum = 5 * sum + row[(i + shift) & 7];
  return sum;
}

extern "C" void places(Bytes& x_in, hls::stream<ap_uint<16>>& y_out) {
  static Byte image[4][8];
  for (auto& row : image)
    for (auto& pixel : row) pixel = x_in.read();

  static Byte moved[4][8];  // each row from the one before, a place to the right
  for (int j = 0; j < 8; ++j) moved[0][j] = image[3][j];
  for (int i = 1; i < 4; ++i)
    for (int j = 0; j < 7; ++j) moved[i][j] = moved[i - 1][j + 1] + image[i][j];
  for (int i = 0; i < 4; ++i) y_out.write(of_row(moved[i], i));

  for (int i = 1; i < 3; ++i)
    for (int j = 1; j < 7; ++j) {
      ap_uint<16> sum = 0;
      for (int di = 0; di < 3; ++di)
        for (int dj = 0; dj < 3; ++dj) {
#pragma HLS UNROLL
          sum = 7 * sum + image[i - di + 1][j + dj - 1];
        }
      y_out.write(sum);
    }

  static Byte cube[3][4][5];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j)
      for (int k = 0; k < 5; ++k)
        cube[i][j][k] = i && j < 3 && k ? Byte(cube[i - 1][j + 1][k - 1] + 1) : image[i][j + k % 2];
  for (int k = 0; k < 5; ++k) y_out.write((cube[2][0][k], cube[2][1][4 - k]));

  static Halves halves;
  for (int i = 0; i < 8; ++i) {
    if (i < 4)
      halves.low[i] = image[0][i];
    else
      halves.high[i - 4] = image[1][i];
  }
  for (int i = 0; i < 3; ++i) halves.high[i + 1] += halves.low[i];
  for (int i = 0; i < 4; ++i) y_out.write((halves.low[i], halves.high[i]));

  static Pair pairs[4];
  for (auto& pair : pairs) {
    pair.key = x_in.read();
    for (auto& value : pair.values) value = x_in.read();
  }
  for (const auto& pair : pairs) y_out.write(pair.key + pair.values[pair.key % 3]);

  static ap_uint<24> wide[5];
  for (auto& each : wide) each = (x_in.read(), x_in.read(), x_in.read());
  ap_uint<24> sum = 0;
  for (const auto& each : wide) sum = 3 * sum + each;
  y_out.write(sum);
  y_out.write(sum >> 16);

  static Filter filter;
  y_out.write(filter.step(x_in.read()));
}
