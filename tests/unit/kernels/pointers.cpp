// SPDX-License-Identifier: Apache-2.0
// Pointers into rows and fields, rows of one, fields of bits, and loads of either of two places.
#include <ap_int.h>
#include <hls_stream.h>

#include <cstdint>

using Byte = ap_uint<8>;

struct Flags {
  bool valid : 1;
  uint8_t count : 7;
  uint8_t data[2];
};

struct Bits {
  bool first : 1, second : 1, third : 1;
  Byte rest[4];
};

static Byte sum3(const Byte row[3]) {
  Byte sum = 0;
  for (int k = 0; k < 3; ++k) sum = 3 * sum + row[k];
  return sum;
}

static Byte backwards(const Byte* row) {
  Byte sum = 0;
  for (int j = 3; j >= 0; --j) sum = 5 * sum + row[j];
  return sum;
}

void pointers(hls::stream<Byte>& x_in, hls::stream<Byte>& y_out) {
  static Byte a[4][4];
  for (auto& row : a)
    for (auto& value : row) value = x_in.read();
  for (int i = 0; i < 4; ++i) {
    y_out.write(sum3(&a[i][1]));
    for (int j = 0; j < 2; ++j) y_out.write(sum3(&a[i][j]));
    y_out.write(backwards(a[i]));
  }
  Byte(*below)[4] = &a[1];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j) y_out.write(below[i][j]);

  const Byte choice = x_in.read();
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) {
      Byte value;
      if (choice >> i & 1)
        value = a[i][j];
      else
        value = a[j][i];
      y_out.write(value);
      y_out.write(choice >> j & 1 ? a[3 - i][j] : a[j][3 - i]);
    }

  static Byte ones[4][1];
  for (int i = 0; i < 4; ++i) ones[i][0] = x_in.read();
  for (int i = 0; i < 3; ++i) y_out.write(ones[x_in.read() & 3][0]);

  static Flags flags[4];
  const uint8_t v = x_in.read().to_uint();
  flags[v & 3].valid = v >> 7;
  flags[v & 3].count = v >> 1;
  flags[v & 3].data[v & 1] = v;
  for (int i = 0; i < 4; ++i) y_out.write(2 * flags[i].count + flags[i].valid + flags[i].data[0]);

  static Bits bits;
  y_out.write(bits.first + 2 * bits.second + 4 * bits.third + bits.rest[v & 3]);
  bits.first = v & 1;
  bits.second = v >> 1 & 1;
  bits.third = v >> 2 & 1;
  bits.rest[v >> 3 & 3] = v;
}
