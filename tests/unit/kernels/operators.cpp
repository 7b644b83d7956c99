// SPDX-License-Identifier: Apache-2.0
// Every operator on numbers of odd and of great width; each result leaves as 64 bits.
#include <ap_int.h>
#include <hls_stream.h>

using Out = hls::stream<ap_uint<64>>;

// As wide as it comes: the low bits, and the high ones folded in.
template <typename T>
void send(const T& value, Out& out) {
  const ap_uint<320> bits = ap_int<320>(value);
  ap_uint<64> folded = 0;
  for (int i = 0; i < 5; ++i) {
    #pragma HLS UNROLL
    const ap_uint<64> part = bits(64 * i + 63, 64 * i);
    folded ^= part + i;
  }
  out.write(folded);
}

template <typename A, typename B>
void all(A a, B b, Out& out) {
  send(a + b, out);
  send(a - b, out);
  send(a * b, out);
  send(b == 0 ? decltype(a / b)(0) : a / b, out);
  send(b == 0 ? decltype(a % b)(0) : a % b, out);
  send(a & b, out);
  send(a | b, out);
  send(a ^ b, out);
  send(~a, out);
  send(-a, out);
  const ap_uint<6> compared = (ap_uint<6>(a < b) << 5) | (ap_uint<6>(a <= b) << 4) | (ap_uint<6>(a > b) << 3) |
                              (ap_uint<6>(a >= b) << 2) | (ap_uint<6>(a == b) << 1) | ap_uint<6>(a != b);
  send(compared, out);
  send(a << (b & 15), out);
  send(a >> ap_uint<5>(b), out);
  send(a >> ap_int<4>(b), out);
  A c = a;
  c += b;
  c <<= 1;
  c(5, 2) = b(3, 0);
  c[1] = b[0];
  ++c;
  send(c, out);
  send(c.concat(b), out);
  send(ap_uint<5>(a.and_reduce() + 2 * a.or_reduce() + 4 * a.xor_reduce() + 8 * a[2] + 16 * !a), out);
  send(a < b ? a : A(b), out);
  send(ap_int<7>(a) < 0 ? ap_int<7>(-ap_int<7>(a)) : ap_int<7>(a), out);
}

extern "C" void operators(hls::stream<ap_uint<100>>& a_in, hls::stream<ap_uint<100>>& b_in,
                          hls::stream<ap_uint<64>>& out) {
  const ap_uint<100> a = a_in.read();
  const ap_uint<100> b = b_in.read();
  all(ap_int<9>(a), ap_uint<7>(b), out);
  all(ap_uint<33>(a), ap_int<17>(b), out);
  all(ap_int<70>(a), ap_int<12>(b), out);
  all(a, ap_uint<65>(b), out);
  send((ap_int<150>(a) << 40) + ap_int<150>(b), out);
  send(ap_uint<200>(a) * ap_uint<90>(b), out);
}
