// SPDX-License-Identifier: Apache-2.0
// hls::stream under synthesis: each access is a call that the compiler turns into a channel operation.
//
// A word is flattened to its bits, lowest field first; of an AXI beat, data and then TLAST in the top bit.
#ifndef E2HLS_HLS_STREAM_SYNTHESIS_H
#define E2HLS_HLS_STREAM_SYNTHESIS_H

#include <cstddef>

#include "hls_stream_flat.h"

// Known to the compiler by name: `bits` points at an unsigned _BitInt(kWidth).
template <int kWidth, bool kAxis>
void __hls_read(const void* stream, void* bits) noexcept;
template <int kWidth, bool kAxis>
void __hls_write(const void* stream, const void* bits) noexcept;
bool __hls_empty(const void* stream) noexcept;
bool __hls_full(const void* stream) noexcept;
// Side channel kSide of the beat whose kWord bits `word` were read; and of the next beat that is written.
template <int kWidth, int kSide, int kWord>
void __hls_side(const void* stream, const void* word, void* bits) noexcept;
template <int kWidth, int kSide>
void __hls_attach(const void* stream, const void* bits) noexcept;

namespace hls {

template <typename T, int kDepth = 0>
class stream;

template <typename T>
class stream<T, 0> {
  E2HLS_REQUIRE_WORD(T);

 public:
  // Without code, so that a global stream needs none before the first call.
  [[gnu::always_inline]] constexpr stream() {}
  [[gnu::always_inline]] constexpr explicit stream(const char*) {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  [[gnu::always_inline]] bool empty() const { return __hls_empty(this); }
  [[gnu::always_inline]] bool full() const { return __hls_full(this); }
  [[gnu::always_inline]] T read() {
    e2hls::BitsOf<Flat::kWidth> bits;
    __hls_read<Flat::kWidth, Flat::kAxis>(this, &bits);
    T value = Flat::unpack(bits);
    if constexpr (Flat::kAxis) {
      e2hls::each_side(value, [this, &bits](auto& side, auto at) __attribute__((always_inline)) {
        __hls_side<std::remove_reference_t<decltype(side)>::width, at(), Flat::kWidth>(this, &bits, &side.V);
      });
    }
    return value;
  }
  [[gnu::always_inline]] void read(T& value) { value = read(); }
  [[gnu::always_inline]] void write(const T& value) {
    if constexpr (Flat::kAxis) {
      // From where it lies: what was never set is to be seen as such.
      e2hls::each_side(value, [this](const auto& side, auto at) __attribute__((always_inline)) {
        __hls_attach<std::remove_reference_t<decltype(side)>::width, at()>(this, &side.V);
      });
    }
    const e2hls::BitsOf<Flat::kWidth> bits = Flat::pack(value);
    __hls_write<Flat::kWidth, Flat::kAxis>(this, &bits);
  }
  [[gnu::always_inline]] bool read_nb(T& value) {
    if (empty()) return false;
    value = read();
    return true;
  }
  [[gnu::always_inline]] bool write_nb(const T& value) {
    if (full()) return false;
    write(value);
    return true;
  }
  [[gnu::always_inline]] void operator>>(T& value) { value = read(); }
  [[gnu::always_inline]] void operator<<(const T& value) { write(value); }

 private:
  using Flat = e2hls::Flat<T>;
};

template <typename T, int kDepth>
class stream : public stream<T, 0> {
 public:
  [[gnu::always_inline]] stream() { __hls_mark_depth(this, 0, kDepth); }
  [[gnu::always_inline]] explicit stream(const char*) : stream() {}
};

}  // namespace hls

#endif  // E2HLS_HLS_STREAM_SYNTHESIS_H
