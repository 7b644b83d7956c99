// SPDX-License-Identifier: Apache-2.0
// Variables that outlive a call, and tables, wherever C++ may declare them; functions kept from inlining.
#include <ap_int.h>
#include <hls_stream.h>

inline constexpr short kSteps[4] = {1, -2, 300, 9};
inline int calls = 7;
static hls::stream<ap_int<16>> sums("sums");
template <int kFactor>
constexpr int kMultiples[3] = {kFactor, 2 * kFactor, 3 * kFactor};

struct Shape {
  static constexpr int kSides[2] = {4, 6};
  static inline ap_int<12> area = 2;
};

// A sum of its own for each kStart; what came first is kept.
template <int kStart>
ap_int<16> sum_from(ap_int<16> x) {
  static ap_int<16> sum = kStart;
  static const ap_int<16> first = x + kStart;
  sum += x;
  return sum ^ first;
}

inline ap_int<16> recent(ap_int<16> x) {
  __attribute__((section(".data.kept"))) static ap_int<16> kept[8] = {5, -5};
  const ap_int<16> old = kept[x & 7];
  kept[x & 7] = x;
  return old;
}

__attribute__((noinline)) ap_int<16> thrice(ap_int<16> x) { return x * 3; }
[[gnu::noinline, clang::optnone]] static ap_int<16> plus(ap_int<16> x) { return x + kSteps[x & 3]; }

__attribute__((noinline)) static void gather(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<16>>& sums) {
  const ap_int<16> x = x_in.read();
  ++calls;
  Shape::area += Shape::kSides[x & 1];
  sums.write(sum_from<3>(x) + sum_from<-4>(x >> 1) + recent(x) + calls + Shape::area);
}

static void finish(hls::stream<ap_int<16>>& sums, hls::stream<ap_int<16>>& y_out) {
  const ap_int<16> x = sums.read();
  y_out.write(thrice(x) + plus(x) + kSteps[x >> 2 & 3] + kMultiples<5>[x[4]]);
}

extern "C" void statics(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<16>>& y_out) {
  #pragma HLS DATAFLOW
  gather(x_in, sums);
  finish(sums, y_out);
}
