// SPDX-License-Identifier: Apache-2.0
// forward and grad_input with rounded results. Spec: numerics.rounded_conv.
//
// Both are sums over taps: output pixel (i, j) of a phase adds up source pixels (i*step + dy, j*step + dx)
// times the weights of tap (dy, dx). forward has one phase; grad_input has one for each remainder of its
// stride, with the taps that meet it, so that no zero is multiplied. In a depthwise convolution each lane
// meets only its own.
#include <cstdlib>

#include "api.hpp"
#include "extremes.hpp"

namespace e2 {
namespace {

struct Tap {
  int dy, dx, r, s;
};

struct Phase {
  int row0, col0, rows, cols;  // first output pixel, and how many
  std::vector<Tap> taps;
  // [output block][tap][source block][channel pair][lane][2], or depthwise [block][tap][lane]
  std::vector<int16_t> weights;
};

// The source of one sample as int16, with zeros around it.
struct Frame {
  int top, left, rows, cols;

  int64_t pixels() const { return int64_t(rows) * cols; }
};

struct Plan {
  int row_step, col_step;  // between source pixels of neighbouring outputs
  int row_out, col_out;    // between output pixels of a phase
  std::vector<Phase> phases;
  Frame frame;
  bool wide;  // sums may leave int32
};

int remainder(int value, int of) { return ((value % of) + of) % of; }

std::vector<Phase> forward_phases(const Convolution& call) {
  const Geometry& g = call.geometry;
  Phase phase{0, 0, call.destination.H, call.destination.W, {}, {}};
  for (int r = 0; r < g.R; ++r) {
    for (int s = 0; s < g.S; ++s) phase.taps.push_back({r - g.top, s - g.left, r, s});
  }
  return {phase};
}

std::vector<Phase> backward_phases(const Convolution& call) {
  const Geometry& g = call.geometry;
  std::vector<Phase> phases;
  for (int a = 0; a < g.row_stride; ++a) {
    for (int b = 0; b < g.col_stride; ++b) {
      const int row0 = remainder(a - g.top, g.row_stride), col0 = remainder(b - g.left, g.col_stride);
      const int rows = (call.destination.H - row0 + g.row_stride - 1) / g.row_stride;
      const int cols = (call.destination.W - col0 + g.col_stride - 1) / g.col_stride;
      if (rows <= 0 || cols <= 0) continue;
      Phase phase{row0, col0, rows, cols, {}, {}};
      for (int r = a; r < g.R; r += g.row_stride) {
        for (int s = b; s < g.S; s += g.col_stride) {
          phase.taps.push_back({(row0 + g.top - r) / g.row_stride, (col0 + g.left - s) / g.col_stride, r, s});
        }
      }
      phases.push_back(phase);
    }
  }
  return phases;
}

// Packed weights of one tap, for one output block.
int64_t tap_weights(const Convolution& call) {
  return call.geometry.depthwise ? kLanes : call.source.blocks() * int64_t(kLanes) * kLanes;
}

void pack_depthwise(Phase& phase, const Convolution& call) {
  const Geometry& g = call.geometry;
  phase.weights.assign(call.destination.blocks() * phase.taps.size() * kLanes, 0);
  for (int c = 0; c < g.C; ++c) {
    int16_t* to = phase.weights.data() + c / kLanes * phase.taps.size() * kLanes + c % kLanes;
    for (const Tap& tap : phase.taps) {
      *to = call.w[(int64_t(c) * g.R + tap.r) * g.S + tap.s];
      to += kLanes;
    }
  }
}

void pack_weights(Phase& phase, const Convolution& call) {
  const Geometry& g = call.geometry;
  if (g.depthwise) return pack_depthwise(phase, call);
  const int outputs = call.destination.blocks(), sources = call.source.blocks();
  const int64_t per_output = int64_t(phase.taps.size()) * tap_weights(call);
  phase.weights.assign(outputs * per_output, 0);
  for (int k = 0; k < g.K; ++k) {
    for (int c = 0; c < g.C; ++c) {
      const int out = call.transposed ? c : k, in = call.transposed ? k : c;
      const int8_t* w = call.w + (int64_t(k) * g.C + c) * g.R * g.S;
      int16_t* to = phase.weights.data() + out / kLanes * per_output + in / kLanes * kLanes * kLanes +
                    in % kLanes / 2 * 2 * kLanes + out % kLanes * 2 + in % 2;
      for (size_t t = 0; t < phase.taps.size(); ++t) {
        to[t * sources * kLanes * kLanes] = w[phase.taps[t].r * g.S + phase.taps[t].s];
      }
    }
  }
}

// Whether some sum of |products|, rounding included, could leave int32.
bool may_overflow(const Convolution& call) {
  const Geometry& g = call.geometry;
  const int taps = g.R * g.S;
  std::vector<int64_t> sums(call.transposed ? g.C : g.K, 0);
  for (int k = 0; k < g.K; ++k) {
    for (int c = 0; c < g.depth(); ++c) {
      const int8_t* w = call.w + (int64_t(k) * g.depth() + c) * taps;
      int64_t& sum = sums[call.transposed && !g.depthwise ? c : k];
      for (int t = 0; t < taps; ++t) sum += std::abs(w[t]);
    }
  }
  const Range range = range_of(call.source.kind);
  const int64_t most = std::max<int64_t>(-int64_t(range.low), range.high);
  const int64_t longest = *std::max_element(sums.begin(), sums.end());
  return call.shift > 30 || most * longest + (int64_t(1) << call.shift >> 1) > INT32_MAX;
}

Plan plan(const Convolution& call) {
  const Geometry& g = call.geometry;
  Plan p{1, 1, 1, 1, {}, {}, may_overflow(call)};
  (call.transposed ? p.row_out : p.row_step) = g.row_stride;
  (call.transposed ? p.col_out : p.col_step) = g.col_stride;
  p.phases = call.transposed ? backward_phases(call) : forward_phases(call);
  int top = 0, left = 0, bottom = call.source.H, right = call.source.W;
  for (auto& phase : p.phases) {
    pack_weights(phase, call);
    const int cols = (phase.cols + kTile - 1) / kTile * kTile;  // the last tile may reach beyond
    for (const Tap& tap : phase.taps) {
      top = std::max(top, -tap.dy);
      left = std::max(left, -tap.dx);
      bottom = std::max(bottom, (phase.rows - 1) * p.row_step + tap.dy + 1);
      right = std::max(right, (cols - 1) * p.col_step + tap.dx + 1);
    }
  }
  p.frame = {top, left, top + bottom, left + right};
  return p;
}

void fill_frame(const Frame& frame, const Tensor& source, const uint8_t* memory, int sample, int16_t* to) {
  const int row_values = frame.cols * kLanes, size = kLanes * source.bytes();
  for (int block = 0; block < source.blocks(); ++block) {
    const uint8_t* from = source.block(memory, sample, block);
    for (int row = 0; row < frame.rows; ++row, to += row_values) {
      const int at = row - frame.top;
      if (at < 0 || at >= source.H) {
        std::memset(to, 0, row_values * sizeof *to);
        continue;
      }
      std::memset(to, 0, frame.left * kLanes * sizeof *to);
      widen_pixels(from + int64_t(at) * source.W * size, source.kind, source.W, to + frame.left * kLanes);
      const int used = (frame.left + source.W) * kLanes;
      std::memset(to + used, 0, (row_values - used) * sizeof *to);
    }
  }
}

template <bool kWide>
using Sum = Lanes<std::conditional_t<kWide, int64_t, int32_t>>;

// kTile neighbouring outputs of one channel block. With kWide, int32 sums of one tap and source block are
// added up in int64.
template <bool kWide>
inline void sum_tile(const int16_t* at, const int16_t* weights, const std::vector<int64_t>& tap_offsets,
                     int blocks, int channels, int64_t block_values, int64_t pixel_values,
                     Sum<kWide> (&sums)[kTile]) {
  Lanes<int32_t> acc[kTile];
  for (int p = 0; p < kTile; ++p) acc[p] = 0, sums[p] = 0;
  for (const int64_t offset : tap_offsets) {
    for (int block = 0; block < blocks; ++block, weights += kLanes * kLanes) {
      const int16_t* from = at + offset + block * block_values;
      const int pairs = (std::min(kLanes, channels - block * kLanes) + 1) / 2;
      for (int pair = 0; pair < pairs; ++pair) {
        const auto w = load<Pairs>(weights + pair * 2 * kLanes);
#pragma unroll
        for (int p = 0; p < kTile; ++p) {
          acc[p] = dot_pairs(acc[p], w, broadcast_pair(from + p * pixel_values + 2 * pair));
        }
      }
      if constexpr (kWide) {
        for (int p = 0; p < kTile; ++p) sums[p] += convert<int64_t>(acc[p]), acc[p] = 0;
      }
    }
  }
  if constexpr (!kWide) {
    for (int p = 0; p < kTile; ++p) sums[p] = acc[p];
  }
}

// The same in a depthwise convolution, whose sums of at most 49 products of 16 and 8 bits fit int32.
template <bool kWide>
inline void sum_depthwise(const int16_t* at, const int16_t* weights, const std::vector<int64_t>& tap_offsets,
                          int64_t pixel_values, Sum<kWide> (&sums)[kTile]) {
  Lanes<int32_t> acc[kTile];
  for (auto& lane : acc) lane = 0;
  for (const int64_t offset : tap_offsets) {
    const auto w = convert<int32_t>(load<Lanes<int16_t>>(weights));
    weights += kLanes;
#pragma unroll
    for (int p = 0; p < kTile; ++p) {
      acc[p] += convert<int32_t>(load<Lanes<int16_t>>(at + offset + p * pixel_values)) * w;
    }
  }
  for (int p = 0; p < kTile; ++p) {
    if constexpr (kWide) {
      sums[p] = convert<int64_t>(acc[p]);
    } else {
      sums[p] = acc[p];
    }
  }
}

// What becomes of the sums of one channel block.
struct Rounding {
  int shift;
  Range range;
  int kind;
  Extremes* extremes;
  Lanes<int64_t> sums = 0, squares = 0;

  Lanes<int32_t> shifted(Lanes<int32_t> sum) const {
    return shift ? (sum + (1 << (shift - 1))) >> shift : sum;
  }

  // A magnitude beyond int32 counts as its largest.
  Lanes<int32_t> shifted(Lanes<int64_t> sum) const {
    const Lanes<int64_t> low = -INT32_MAX, high = INT32_MAX;
    const Lanes<int64_t> half = shift ? int64_t(1) << (shift - 1) : 0;
    return convert<int32_t>(
        __builtin_elementwise_min(__builtin_elementwise_max((sum + half) >> int64_t(shift), low), high));
  }

  template <typename V>
  void put(V sum, uint8_t* to, bool counts) {
    const Lanes<int32_t> value = shifted(sum);
    const auto fitted = min(max(value, range.low), range.high);
    extremes->largest = max(extremes->largest, magnitude(value));
    extremes->saturations -= fitted != value;
    if (counts) {
      sums += convert<int64_t>(fitted);
      squares += convert<int64_t>(fitted * fitted);
    }
    narrow(fitted, kind, to);
  }
};

template <bool kWide>
void convolve_phase(const Plan& p, const Phase& phase, const Convolution& call, const int16_t* frame,
                    int block, uint8_t* to, Rounding& rounding) {
  const int16_t* weights = phase.weights.data() + block * int64_t(phase.taps.size()) * tap_weights(call);
  const int64_t block_values = p.frame.pixels() * kLanes, pixel_values = p.col_step * kLanes;
  std::vector<int64_t> offsets;
  for (const Tap& tap : phase.taps) {
    offsets.push_back(((tap.dy + p.frame.top) * int64_t(p.frame.cols) + tap.dx + p.frame.left) * kLanes);
  }
  const int size = kLanes * call.destination.bytes();
  const int64_t row_values = int64_t(p.row_step) * p.frame.cols * kLanes;
  for (int i = 0; i < phase.rows; ++i) {
    uint8_t* row = to + (int64_t(phase.row0 + i * p.row_out) * call.destination.W + phase.col0) * size;
    for (int j = 0; j < phase.cols; j += kTile) {
      Sum<kWide> sums[kTile];
      const int16_t* at = frame + i * row_values + j * pixel_values;
      if (call.geometry.depthwise) {
        sum_depthwise<kWide>(at + block * block_values, weights, offsets, pixel_values, sums);
      } else {
        sum_tile<kWide>(at, weights, offsets, call.source.blocks(), call.source.C, block_values, pixel_values,
                        sums);
      }
      const int count = std::min(kTile, phase.cols - j);
      for (int q = 0; q < count; ++q) {
        rounding.put(sums[q], row + int64_t(j + q) * p.col_out * size, call.sums != nullptr);
      }
    }
  }
}

}  // namespace

void run(Pool& pool, uint8_t* memory, int samples, Convolution& call) {
  const Plan p = plan(call);
  const int blocks = call.destination.blocks();
  std::vector<std::vector<int16_t>> frames(pool.threads());
  std::vector<Totals> totals(pool.threads());
  pool.run(samples, [&](int sample, int thread) {
    auto& frame = frames[thread];
    frame.resize(p.frame.pixels() * kLanes * call.source.blocks());
    fill_frame(p.frame, call.source, memory, sample, frame.data());
    Extremes extremes;
    for (int block = 0; block < blocks; ++block) {
      auto* to = const_cast<uint8_t*>(call.destination.block(memory, sample, block));
      Rounding rounding{call.shift, range_of(call.destination.kind), call.destination.kind, &extremes};
      for (const Phase& phase : p.phases) {
        (p.wide ? convolve_phase<true> : convolve_phase<false>)(p, phase, call, frame.data(), block, to,
                                                                rounding);
      }
      if (call.sums) {
        store(call.sums + (int64_t(sample) * blocks + block) * kLanes, rounding.sums);
        store(call.squares + (int64_t(sample) * blocks + block) * kLanes, rounding.squares);
      }
    }
    totals[thread].add(extremes);
  });
  const Totals total = sum(totals);
  call.largest = total.largest;
  call.saturations = total.saturations;
}

}  // namespace e2
