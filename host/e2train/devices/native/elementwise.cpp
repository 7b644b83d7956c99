// SPDX-License-Identifier: Apache-2.0
// affine and reduce. Spec: numerics.elementwise.
#include "api.hpp"
#include "extremes.hpp"

namespace e2 {
namespace {

constexpr int kChunk = 64;  // pixels at a time: their operands stay in the first cache
// numerics.rounding.DITHER_STEPS
constexpr int kDitherChannel = 117, kDitherRow = 69, kDitherColumn = 37, kDitherPhases = 256;

struct Chunk {
  alignas(64) int16_t u[kChunk * kLanes], v[kChunk * kLanes], mask[kChunk * kLanes];
};

// Whether a mask opens in each lane: above zero and below the limit, which may be beyond int16.
struct Opening {
  explicit Opening(int32_t limit) : most(int16_t(std::min(limit - 1, INT16_MAX))) {}

  Lanes<int16_t> operator()(const int16_t* mask) const {
    const auto value = load<Lanes<int16_t>>(mask);
    return (value > Lanes<int16_t>(0)) & (value <= most);
  }

  Lanes<int16_t> most;
};

// How a sum is rounded: numerics.round_shift or dithered_shift. Bits that a long shift drops anyway go first,
// so that nothing leaves int32.
struct Rounding {
  Rounding(const Affine& call, int block)
      : dithers(call.dither >= 0),
        dropped(dithers && call.shift > kBits ? call.shift - kBits : 0),
        left(call.shift - dropped),
        half(dithers || call.shift == 0 ? 0 : 1 << (call.shift - 1)) {
    for (int lane = 0; lane < kLanes; ++lane)
      phases[lane] = call.dither + (block * kLanes + lane) * kDitherChannel;
  }

  Lanes<int32_t> rounded(Lanes<int32_t> sum, int row, int column) const {
    if (!dithers) return (sum + half) >> left;
    const Lanes<int32_t> phase = (phases + (row * kDitherRow + column * kDitherColumn)) & (kDitherPhases - 1);
    return ((sum >> dropped) + ((2 * phase + 1) >> (kBits - left))) >> left;
  }

  static constexpr int kBits = 9;  // of what is added
  bool dithers;
  int dropped, left;
  int half;
  Lanes<int32_t> phases;
};

// out = saturate(round_shift(a*u + b*v + d)), of one channel block. With 15-bit a and b and 30-bit d no sum
// leaves int32.
void affine_block(const Affine& call, uint8_t* memory, int sample, int block, Chunk& chunk,
                  Extremes& extremes) {
  const Tensor& out = call.out;
  const auto a = load<Lanes<int32_t>>(call.a + block * kLanes),
             b = load<Lanes<int32_t>>(call.b + block * kLanes);
  const auto d = load<Lanes<int32_t>>(call.d + block * kLanes);
  const Rounding rounding(call, block);
  const Range range = range_of(out.kind);
  const Lanes<int32_t> floor = call.relu ? 0 : INT32_MIN, ceiling = call.ceiling;
  const Opening opening(call.mask_limit);
  const bool masks_u = call.mask.present && !call.mask_out, masks_out = call.mask.present && call.mask_out;
  auto* to = const_cast<uint8_t*>(out.block(memory, sample, block));
  Lanes<int64_t> sums = 0;
  for (int first = 0; first < out.H * out.W; first += kChunk) {
    const int count = std::min(kChunk, out.H * out.W - first);
    read_pixels(call.u, memory, sample, block, first, count, out.W, chunk.u);
    if (call.v.present) read_pixels(call.v, memory, sample, block, first, count, out.W, chunk.v);
    if (call.mask.present) read_pixels(call.mask, memory, sample, block, first, count, out.W, chunk.mask);
    Lanes<int32_t> chunk_sums = 0;
    int row = first / out.W, column = first % out.W;
    for (int i = 0; i < count; ++i) {
      auto u = load<Lanes<int16_t>>(chunk.u + i * kLanes);
      Lanes<int16_t> open = -1;
      if (call.mask.present) open = opening(chunk.mask + i * kLanes);
      if (masks_u) u &= open;
      Lanes<int32_t> acc = convert<int32_t>(u) * a + d;
      if (call.v.present) acc += convert<int32_t>(load<Lanes<int16_t>>(chunk.v + i * kLanes)) * b;
      acc = min(max(rounding.rounded(acc, row, column), floor), ceiling);
      if (++column == out.W) ++row, column = 0;
      if (masks_out) acc &= convert<int32_t>(open);
      const auto fitted = min(max(acc, range.low), range.high);
      extremes.largest = max(extremes.largest, magnitude(acc));
      extremes.saturations -= fitted != acc;
      chunk_sums += fitted;
      narrow(fitted, out.kind, to + (int64_t(first) + i) * kLanes * out.bytes());
    }
    sums += convert<int64_t>(chunk_sums);
  }
  if (call.sums) store(call.sums + (int64_t(sample) * out.blocks() + block) * kLanes, sums);
}

void reduce_block(const Reduction& call, const uint8_t* memory, int sample, int block, Chunk& chunk) {
  const Tensor& u = call.u;
  const Opening opening(call.mask_limit);
  Lanes<int64_t> sums = 0, products = 0;
  for (int first = 0; first < u.H * u.W; first += kChunk) {
    const int count = std::min(kChunk, u.H * u.W - first);
    read_pixels(u, memory, sample, block, first, count, u.W, chunk.u);
    read_pixels(call.v, memory, sample, block, first, count, u.W, chunk.v);
    if (call.mask.present) read_pixels(call.mask, memory, sample, block, first, count, u.W, chunk.mask);
    Lanes<int32_t> chunk_sums = 0;
    for (int i = 0; i < count; ++i) {
      auto value = load<Lanes<int16_t>>(chunk.u + i * kLanes);
      if (call.mask.present) value &= opening(chunk.mask + i * kLanes);
      const auto wide = convert<int32_t>(value);
      chunk_sums += wide;
      products += convert<int64_t>(wide * convert<int32_t>(load<Lanes<int16_t>>(chunk.v + i * kLanes)));
    }
    sums += convert<int64_t>(chunk_sums);
  }
  const int64_t at = (int64_t(sample) * u.blocks() + block) * kLanes;
  store(call.sums + at, sums);
  store(call.products + at, products);
}

}  // namespace

void run(Pool& pool, uint8_t* memory, int samples, Affine& call) {
  std::vector<Chunk> chunks(pool.threads());
  std::vector<Totals> totals(pool.threads());
  pool.run(samples, [&](int sample, int thread) {
    Extremes extremes;
    for (int block = 0; block < call.out.blocks(); ++block) {
      affine_block(call, memory, sample, block, chunks[thread], extremes);
    }
    totals[thread].add(extremes);
  });
  const Totals total = sum(totals);
  call.largest = total.largest;
  call.saturations = total.saturations;
}

void run(Pool& pool, uint8_t* memory, int samples, Reduction& call) {
  std::vector<Chunk> chunks(pool.threads());
  pool.run(samples, [&](int sample, int thread) {
    for (int block = 0; block < call.u.blocks(); ++block) {
      reduce_block(call, memory, sample, block, chunks[thread]);
    }
  });
}

}  // namespace e2
