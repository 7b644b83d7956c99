// SPDX-License-Identifier: Apache-2.0
// grad_weight and, of high bits alone, grad_msb. Spec: numerics.conv_grad_weight.
//
// A pair of neighbouring pixels is one step: 16 output channels of gy against one input channel of x, spread
// over the lanes. int32 sums go into int64 before they could overflow.
#include "api.hpp"

namespace e2 {
namespace {

constexpr int kPixels = 512;  // of a group of samples: enough to make the adding up in int64 cheap

// x of a group of samples, channel by channel, as int16 with the padding around it; columns that a stride
// skips stand apart, so that neighbouring outputs meet neighbouring values.
struct ChannelPlanes {
  int rows, cols, phases;  // of one channel of one sample
  std::vector<int16_t> values;

  int64_t plane() const { return int64_t(rows) * cols; }
  int64_t channel() const { return plane() * phases; }
};

struct Scratch {
  ChannelPlanes x;
  std::vector<int16_t> gy;    // [sample][output block][row][pair of columns][lane][2]
  std::vector<int16_t> row;   // 16 channels of one row
  std::vector<int64_t> sums;  // [output block][r][s][input channel][lane]
};

// Rows and columns of a square of 16 x 16 swap places.
inline void transpose(Lanes<int16_t> (&rows)[kLanes]) {
  for (int round = 0; round < 4; ++round) {
    Lanes<int16_t> next[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      const Pairs both = interleave(rows[i], rows[i + kLanes / 2]);
      next[2 * i] = both.lo;
      next[2 * i + 1] = both.hi;
    }
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

// One row of pixels as 16 rows of `width` values each, one for each channel.
void split_channels(const uint8_t* from, const Tensor& x, int bits, int width, int16_t* to) {
  const int size = kLanes * x.bytes();
  for (int first = 0; first < x.W; first += kLanes) {
    Lanes<int16_t> square[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      square[i] =
          first + i < x.W ? keep_high(widen(from + int64_t(first + i) * size, x.kind), x.kind, bits) : 0;
    }
    transpose(square);
    for (int lane = 0; lane < kLanes; ++lane) store(to + lane * width + first, square[lane]);
  }
}

void fill_x(const WeightGradient& call, const uint8_t* memory, int sample, Scratch& scratch, int16_t* to) {
  const Geometry& g = call.geometry;
  const ChannelPlanes& planes = scratch.x;
  const int width = (call.x.W + kLanes - 1) / kLanes * kLanes;
  scratch.row.resize(size_t(width) * kLanes);
  std::memset(to, 0, planes.channel() * g.C * sizeof *to);
  for (int c0 = 0; c0 < g.C; c0 += kLanes) {
    const uint8_t* from = call.x.block(memory, sample, c0 / kLanes);
    for (int y = 0; y < std::min(call.x.H, planes.rows - g.top); ++y) {
      split_channels(from + int64_t(y) * call.x.W * kLanes * call.x.bytes(), call.x, call.x_bits, width,
                     scratch.row.data());
      for (int lane = 0; lane < std::min(kLanes, g.C - c0); ++lane) {
        const int16_t* row = scratch.row.data() + lane * width;
        int16_t* out = to + (c0 + lane) * planes.channel() + int64_t(y + g.top) * planes.cols;
        if (planes.phases == 1) {
          const int columns = std::min(call.x.W, planes.cols - g.left);
          if (columns > 0) std::memcpy(out + g.left, row, columns * sizeof *out);
          continue;
        }
        for (int col = 0; col < call.x.W; ++col) {
          const int at = col + g.left;
          if (at / 2 < planes.cols) out[at % 2 * planes.plane() + at / 2] = row[col];
        }
      }
    }
  }
}

void fill_gy(const WeightGradient& call, const uint8_t* memory, int sample, int16_t* to) {
  const Tensor& gy = call.gy;
  const int size = kLanes * gy.bytes();
  for (int block = 0; block < gy.blocks(); ++block) {
    const uint8_t* from = gy.block(memory, sample, block);
    for (int row = 0; row < gy.H; ++row, from += int64_t(gy.W) * size) {
      for (int col = 0; col < gy.W; col += 2, to += 2 * kLanes) {
        const auto even = keep_high(widen(from + int64_t(col) * size, gy.kind), gy.kind, call.g_bits);
        const auto odd = col + 1 < gy.W
                             ? keep_high(widen(from + int64_t(col + 1) * size, gy.kind), gy.kind, call.g_bits)
                             : Lanes<int16_t>(0);
        store(to, interleave(even, odd));
      }
    }
  }
}

// One output block, one tap, kTile input channels, over the samples of a group.
struct Correlation {
  const int16_t *x, *gy;
  int64_t x_sample, x_row, x_channel, gy_sample;  // distances
  int samples, rows, pairs, limit;                // limit: pairs that int32 has room for

  void add_to(int64_t* sums, int channels) const {
    Lanes<int32_t> acc[kTile];
    for (auto& lane : acc) lane = 0;
    int held = 0;
    const auto flush = [&] {
      for (int c = 0; c < channels; ++c) {
        store(sums + c * kLanes, load<Lanes<int64_t>>(sums + c * kLanes) + convert<int64_t>(acc[c]));
      }
      for (auto& lane : acc) lane = 0;
      held = 0;
    };
    for (int sample = 0; sample < samples; ++sample) {
      for (int row = 0; row < rows; ++row) {
        const int16_t* from = x + sample * x_sample + row * x_row;
        const int16_t* with = gy + sample * gy_sample + int64_t(row) * pairs * 2 * kLanes;
        for (int first = 0; first < pairs; first += limit) {
          const int count = std::min(limit, pairs - first);
          if (held + count > limit) flush();
          held += count;
          for (int pair = first; pair < first + count; ++pair) {
            const auto both = load<Pairs>(with + pair * 2 * kLanes);
#pragma unroll
            for (int c = 0; c < kTile; ++c) {
              acc[c] = dot_pairs(acc[c], both, broadcast_pair(from + c * x_channel + 2 * pair));
            }
          }
        }
      }
    }
    flush();
  }
};

void correlate_group(const WeightGradient& call, const uint8_t* memory, int first, int samples,
                     Scratch& scratch) {
  const Geometry& g = call.geometry;
  const int pairs = (call.gy.W + 1) / 2, blocks = call.gy.blocks();
  const int64_t x_sample = scratch.x.channel() * g.C;
  const int64_t gy_block = int64_t(call.gy.H) * pairs * 2 * kLanes, gy_sample = gy_block * blocks;
  // A tile of channels may reach beyond the last; what is there does not count.
  scratch.x.values.resize(x_sample * samples + scratch.x.channel() * kTile);
  scratch.gy.resize(gy_sample * samples);
  for (int i = 0; i < samples; ++i) {
    fill_x(call, memory, first + i, scratch, scratch.x.values.data() + i * x_sample);
    fill_gy(call, memory, first + i, scratch.gy.data() + i * gy_sample);
  }
  int64_t* sums = scratch.sums.data();
  for (int block = 0; block < blocks; ++block) {
    for (int r = 0; r < g.R; ++r) {
      for (int s = 0; s < g.S; ++s, sums += int64_t(g.C) * kLanes) {
        const int64_t tap =
            s % g.col_stride * scratch.x.plane() + int64_t(r) * scratch.x.cols + s / g.col_stride;
        for (int c = 0; c < g.C; c += kTile) {
          const Correlation correlation{scratch.x.values.data() + c * scratch.x.channel() + tap,
                                        scratch.gy.data() + block * gy_block,
                                        x_sample,
                                        int64_t(g.row_stride) * scratch.x.cols,
                                        scratch.x.channel(),
                                        gy_sample,
                                        samples,
                                        call.gy.H,
                                        pairs,
                                        products_in_int32(call.x, call.gy) / 2};
          correlation.add_to(sums + int64_t(c) * kLanes, std::min(kTile, g.C - c));
        }
      }
    }
  }
}

}  // namespace

void run(Pool& pool, uint8_t* memory, int samples, WeightGradient& call) {
  const Geometry& g = call.geometry;
  if (g.depthwise) return run_depthwise(pool, memory, samples, call);
  const int64_t values = int64_t(call.gy.blocks()) * g.R * g.S * g.C * kLanes;
  std::vector<Scratch> scratches(pool.threads());
  for (auto& scratch : scratches) {
    scratch.x.phases = g.col_stride;
    scratch.x.rows = (call.gy.H - 1) * g.row_stride + g.R;
    scratch.x.cols = (call.gy.W + 1) / 2 * 2 + (g.S - 1) / g.col_stride;
    scratch.sums.assign(values, 0);
  }
  const int group = std::max(1, kPixels / (call.gy.H * call.gy.W));
  pool.run((samples + group - 1) / group, [&](int index, int thread) {
    const int first = index * group;
    correlate_group(call, memory, first, std::min(group, samples - first), scratches[thread]);
  });
  for (int k = 0; k < g.K; ++k) {
    for (int c = 0; c < g.C; ++c) {
      for (int tap = 0; tap < g.R * g.S; ++tap) {
        const int64_t at = ((int64_t(k / kLanes) * g.R * g.S + tap) * g.C + c) * kLanes + k % kLanes;
        int64_t sum = 0;
        for (const auto& scratch : scratches) sum += scratch.sums[at];
        call.gw[(int64_t(k) * g.C + c) * g.R * g.S + tap] = sum;
      }
    }
  }
}

}  // namespace e2
