// SPDX-License-Identifier: Apache-2.0
// grad_weight and grad_msb of a depthwise convolution. Spec: numerics.conv_grad_weight.
//
// 16 channels side by side, as they lie in memory. int32 sums go into int64 before they could overflow.
#include "api.hpp"

namespace e2 {
namespace {

struct Scratch {
  int rows, cols;          // of x with the padding around it, as far as the kernel reaches
  std::vector<int16_t> x;  // one channel block of one sample
  std::vector<int16_t> gy;
  std::vector<int64_t> sums;  // [block][r][s][lane]
};

// High bits of `count` pixels.
void keep_pixels(const uint8_t* from, int32_t kind, int bits, int count, int16_t* to) {
  widen_pixels(from, kind, count, to);
  if (!bits) return;
  for (int i = 0; i < count; ++i, to += kLanes) store(to, keep_high(load<Lanes<int16_t>>(to), kind, bits));
}

void fill(const WeightGradient& call, const uint8_t* memory, int sample, int block, Scratch& scratch) {
  const Geometry& g = call.geometry;
  const uint8_t* from = call.x.block(memory, sample, block);
  const int columns = std::min(call.x.W, scratch.cols - g.left);
  std::fill(scratch.x.begin(), scratch.x.end(), 0);
  for (int y = 0; columns > 0 && y < std::min(call.x.H, scratch.rows - g.top); ++y) {
    int16_t* to = scratch.x.data() + ((y + g.top) * int64_t(scratch.cols) + g.left) * kLanes;
    keep_pixels(from + int64_t(y) * call.x.W * kLanes * call.x.bytes(), call.x.kind, call.x_bits, columns,
                to);
  }
  keep_pixels(call.gy.block(memory, sample, block), call.gy.kind, call.g_bits, call.gy.H * call.gy.W,
              scratch.gy.data());
}

// One tap of one channel block of one sample; x is where the tap meets the first pixel of gy.
void correlate(const WeightGradient& call, const int16_t* x, const Scratch& scratch, int64_t* sums) {
  const Geometry& g = call.geometry;
  const int limit = products_in_int32(call.x, call.gy);
  auto total = load<Lanes<int64_t>>(sums);
  for (int row = 0; row < call.gy.H; ++row) {
    const int16_t* from = x + int64_t(row) * g.row_stride * scratch.cols * kLanes;
    const int16_t* with = scratch.gy.data() + int64_t(row) * call.gy.W * kLanes;
    for (int first = 0; first < call.gy.W; first += limit) {
      Lanes<int32_t> acc = 0;
      for (int col = first; col < std::min(first + limit, call.gy.W); ++col) {
        acc += convert<int32_t>(load<Lanes<int16_t>>(from + int64_t(col) * g.col_stride * kLanes)) *
               convert<int32_t>(load<Lanes<int16_t>>(with + col * kLanes));
      }
      total += convert<int64_t>(acc);
    }
  }
  store(sums, total);
}

}  // namespace

void run_depthwise(Pool& pool, uint8_t* memory, int samples, WeightGradient& call) {
  const Geometry& g = call.geometry;
  const int taps = g.R * g.S;
  std::vector<Scratch> scratches(pool.threads());
  for (auto& scratch : scratches) {
    scratch.rows = (call.gy.H - 1) * g.row_stride + g.R;
    scratch.cols = (call.gy.W - 1) * g.col_stride + g.S;
    scratch.x.resize(int64_t(scratch.rows) * scratch.cols * kLanes);
    scratch.gy.resize(int64_t(call.gy.H) * call.gy.W * kLanes);
    scratch.sums.assign(int64_t(call.gy.blocks()) * taps * kLanes, 0);
  }
  pool.run(samples, [&](int sample, int thread) {
    Scratch& scratch = scratches[thread];
    for (int block = 0; block < call.gy.blocks(); ++block) {
      fill(call, memory, sample, block, scratch);
      for (int tap = 0; tap < taps; ++tap) {
        const int16_t* x = scratch.x.data() + (tap / g.S * int64_t(scratch.cols) + tap % g.S) * kLanes;
        correlate(call, x, scratch, scratch.sums.data() + (int64_t(block) * taps + tap) * kLanes);
      }
    }
  });
  for (int c = 0; c < g.C; ++c) {
    for (int tap = 0; tap < taps; ++tap) {
      int64_t sum = 0;
      for (const auto& scratch : scratches)
        sum += scratch.sums[(c / kLanes * taps + tap) * kLanes + c % kLanes];
      call.gw[c * taps + tap] = sum;
    }
  }
}

}  // namespace e2
