// SPDX-License-Identifier: Apache-2.0
// A pragma in every place where a statement may begin, and those that macros and _Pragma make.
#include <ap_int.h>
#include <hls_stream.h>

#define PRAGMA_TEXT(x) _Pragma(#x)
#define PRAGMA_HLS(x) PRAGMA_TEXT(HLS x)
#define INTERVAL (1 + 1)

constexpr int sum_below(int n) {
  int total = 0;
  for (int i = 0; i < n; ++i)
    #pragma HLS PIPELINE
    total += i;
  return total;
}

extern "C" void pragmas(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<16>>& y_out) {
  static_assert(sum_below(5) == 10);
  static ap_int<16> a[2];
  #pragma HLS ARRAY_PARTITION variable=a complete
  const char* const no_pragma = R"(
    #pragma HLS NOTHING
  )";
  ap_int<16> sum = no_pragma[0] == '"' ? 1 : 0, other = sum_below(4), i;
words:
  #pragma HLS LOOP_TRIPCOUNT max=8
  for (i = 0; i < 8; i++)
    #pragma HLS PIPELINE II=1
    sum += x_in.read();
  for (int k = 0; k < 4; ++k)
    #pragma HLS PIPELINE II=INTERVAL
    #pragma HLS LOOP_FLATTEN off
    for (int m = 0; m < 2; ++m)
      #pragma HLS UNROLL
      if (m == 1)
        other += x_in.read() ^ k;
      else
        other -= k;
  if (sum > 0)
    for (int k = 0; k < 3; ++k)
      #pragma HLS PIPELINE
      if (k == 1) sum += a[1];
      #pragma HLS PIPELINE off
      else
        sum -= 1;
  else
    #pragma HLS ARRAY_PARTITION variable=a complete
    a[0] ^= 0x155;
  do
    #pragma HLS PIPELINE
    --i;
  while (i > 0);
  while (i < 5)
    // Of macros too.
    PRAGMA_HLS(PIPELINE II = INTERVAL) i += 2;
  switch (other & 3) {
    case 0:
      #pragma HLS ARRAY_PARTITION variable=a complete
      sum = ~sum;
      break;
    case 1:
    default:
      #pragma HLS ARRAY_PARTITION variable=a complete
      a[1] ^= sum;
  }
  for (int k = 0; k < 2; ++k) {
    _Pragma("HLS UNROLL") sum += k + i;
  }
  y_out.write(sum + a[0]);
  y_out.write(other + a[1]);
  /* #pragma HLS NOTHING
  #pragma HLS NOTHING */
}
