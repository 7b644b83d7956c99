// SPDX-License-Identifier: Apache-2.0
// Ranges, bits and concatenations, read and written, with constant and with variable indices; shifts of shifts.
#include <ap_int.h>
#include <hls_stream.h>

extern "C" void references(hls::stream<ap_uint<32>>& x_in, hls::stream<ap_uint<32>>& y_out) {
  #pragma HLS PIPELINE II=8
  ap_uint<32> word = x_in.read();
  const ap_uint<16> a = word;
  const ap_uint<16> swapped = (a(7, 0), a(15, 8));
  const ap_uint<16> reversed = a(0, 15);
  y_out.write((swapped, reversed));
  ap_uint<8> high;
  ap_int<8> low;
  (high, low) = a;
  const ap_uint<8> remainder = low == 0 ? ap_uint<8>(0) : ap_uint<8>(high % low);
  const ap_int<8> rest = high == 0 ? ap_int<8>(0) : ap_int<8>(low % high);
  y_out.write((remainder, rest, high, low));
  const ap_uint<5> i = word(20, 16);
  const ap_uint<5> j = word(25, 21);
  y_out.write(word(i, j));
  ap_int<32> target = 0;
  target(i, j) = a;
  y_out.write(target);
  y_out.write((word[i], a[3], a(j & 15, 2), true));
  ap_uint<20> left = 0;
  ap_uint<12> right = -1;
  (left(i & 15, 3), right[j & 7], right(0, 5)) = word;
  y_out.write((left, right));
  y_out.write((word[3] << 5) + (word(7, 4) << 2) - word(3, 0));
  // Amounts whose sum needs a bit more than each of them.
  const ap_uint<9> bits = word;
  const ap_uint<3> near = word >> 9, far = word >> 12;
  const ap_uint<9> up = bits << near, down = bits >> near;
  const ap_uint<1> ordered = left(3, 7) == 5 && right(2, 1) < a(1, 0);
  y_out.write((ordered, ap_uint<9>(up << far), ap_uint<9>(down >> far)));
}
