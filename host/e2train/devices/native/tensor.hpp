// SPDX-License-Identifier: Apache-2.0
// Tensors in the device's memory, NCHW16c: per sample, per block of 16 channels, rows of pixels of 16 lanes.
#pragma once

#include <algorithm>

#include "vectors.hpp"

namespace e2 {

enum Kind : int32_t { kUint8 = 0, kInt8 = 1, kInt16 = 2 };
// How an element-wise operation reads a tensor: as it is; every second pixel; every second pixel of an image
// twice its size, zero between; its one pixel everywhere.
enum View : int32_t { kWhole = 0, kStrided = 1, kSpread = 2, kBroadcast = 3 };

struct Tensor {
  int32_t kind, view;
  int32_t C, H, W;
  int32_t present;         // 0: no such operand
  const int64_t* offsets;  // bytes from the start of the memory to each sample

  int blocks() const { return (C + kLanes - 1) / kLanes; }
  int bytes() const { return kind == kInt16 ? 2 : 1; }
  const uint8_t* block(const uint8_t* memory, int sample, int index) const {
    return memory + offsets[sample] + int64_t(index) * H * W * kLanes * bytes();
  }
};

struct Range {
  int32_t low, high;
};

inline Range range_of(int32_t kind) {
  if (kind == kUint8) return {0, 255};
  return kind == kInt8 ? Range{-128, 127} : Range{-32768, 32767};
}

// How many products of their values int32 can add up.
inline int products_in_int32(const Tensor& x, const Tensor& gy) {
  const auto most = [](const Tensor& t) {
    const Range range = range_of(t.kind);
    return std::max<int64_t>(-int64_t(range.low), range.high);
  };
  return int(INT32_MAX / (most(x) * most(gy)));
}

// numerics.keep_high
inline Lanes<int16_t> keep_high(Lanes<int16_t> value, int32_t kind, int kept) {
  const int shift = (kind == kInt16 ? 16 : 8) - kept, most = (1 << (kept - (kind != kUint8))) - 1;
  if (kept == 0 || shift == 0) return value;
  return convert<int16_t>(min((convert<int32_t>(value) + (1 << (shift - 1))) >> shift, most));
}

inline Lanes<int16_t> widen(const uint8_t* from, int32_t kind) {
  if (kind == kInt16) return load<Lanes<int16_t>>(from);
  return kind == kUint8 ? convert<int16_t>(load<Lanes<uint8_t>>(from))
                        : convert<int16_t>(load<Lanes<int8_t>>(from));
}

// Pixels in a row of memory, as int16.
inline void widen_pixels(const uint8_t* from, int32_t kind, int pixels, int16_t* to) {
  if (kind == kInt16) {
    std::memcpy(to, from, size_t(pixels) * kLanes * 2);
  } else if (kind == kUint8) {
    for (int i = 0; i < pixels * kLanes; i += kLanes)
      store(to + i, convert<int16_t>(load<Lanes<uint8_t>>(from + i)));
  } else {
    for (int i = 0; i < pixels * kLanes; i += kLanes)
      store(to + i, convert<int16_t>(load<Lanes<int8_t>>(from + i)));
  }
}

// Values that fit the kind.
inline void narrow(Lanes<int32_t> value, int32_t kind, uint8_t* to) {
  if (kind == kInt16) {
    store(to, convert<int16_t>(value));
  } else {
    store(to, convert<uint8_t>(value));  // the low byte, of either sign
  }
}

// Pixels first .. first+count of one channel block, seen through the tensor's view of an image `width` wide.
inline void read_pixels(const Tensor& t, const uint8_t* memory, int sample, int block, int first, int count,
                        int width, int16_t* to) {
  if (!t.present || block >= t.blocks()) {
    std::memset(to, 0, size_t(count) * kLanes * 2);
    return;
  }
  const uint8_t* from = t.block(memory, sample, block);
  const int size = kLanes * t.bytes();
  if (t.view == kWhole) {
    widen_pixels(from + int64_t(first) * size, t.kind, count, to);
    return;
  }
  for (int i = 0; i < count; ++i) {
    const int row = (first + i) / width, col = (first + i) % width;
    Lanes<int16_t> value = 0;
    if (t.view == kBroadcast) {
      value = widen(from, t.kind);
    } else if (t.view == kStrided) {
      value = widen(from + (int64_t(2 * row) * t.W + 2 * col) * size, t.kind);
    } else if (row % 2 == 0 && col % 2 == 0) {
      value = widen(from + (int64_t(row / 2) * t.W + col / 2) * size, t.kind);
    }
    store(to + i * kLanes, value);
  }
}

}  // namespace e2
