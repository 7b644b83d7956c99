// SPDX-License-Identifier: Apache-2.0
// What Python calls. Every call reads and writes tensors at offsets of one memory, and has been checked
// there.
#pragma once

#include "pool.hpp"
#include "tensor.hpp"

namespace e2 {

struct Geometry {
  int32_t K, C, R, S;
  int32_t row_stride, col_stride, top, left;
  int32_t depthwise;  // each channel gives one of its own: K is C

  int depth() const { return depthwise ? 1 : C; }  // input channels of an output channel
};

// forward: destination = conv(source, w); grad_input: destination = conv_transpose(source, w).
struct Convolution {
  Tensor source, destination;
  Geometry geometry;
  int32_t transposed;
  int32_t shift;
  const int8_t* w;  // (K, depth, R, S)
  int64_t* sums;    // (samples, channel blocks * 16) of the results and of their squares, or null
  int64_t* squares;
  int64_t largest, saturations;  // results
};

struct WeightGradient {
  Tensor x, gy;
  Geometry geometry;
  int32_t x_bits, g_bits;  // high bits kept of each operand, 0: all
  int64_t* gw;             // (K, depth, R, S)
};

struct Affine {
  Tensor u, v, mask, out;
  const int32_t *a, *b, *d;  // of each channel, padded to whole blocks
  int32_t shift, relu, ceiling, mask_limit, mask_out;
  int32_t dither;  // phase of each sample's first value, or -1
  int64_t* sums;  // (samples, channel blocks * 16), or null
  int64_t largest, saturations;
};

struct Reduction {
  Tensor u, v, mask;
  int32_t mask_limit;
  int64_t *sums, *products;  // (samples, channel blocks * 16)
};

void run(Pool& pool, uint8_t* memory, int samples, Convolution& call);
void run(Pool& pool, uint8_t* memory, int samples, WeightGradient& call);
void run_depthwise(Pool& pool, uint8_t* memory, int samples, WeightGradient& call);
void run(Pool& pool, uint8_t* memory, int samples, Affine& call);
void run(Pool& pool, uint8_t* memory, int samples, Reduction& call);

}  // namespace e2
