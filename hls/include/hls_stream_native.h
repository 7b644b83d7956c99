// SPDX-License-Identifier: Apache-2.0
// hls::stream in a native build: an unbounded queue.
#ifndef E2HLS_HLS_STREAM_NATIVE_H
#define E2HLS_HLS_STREAM_NATIVE_H

#include <cstddef>
#include <exception>
#include <utility>
#include <vector>

#include "hls_stream_flat.h"

namespace hls {

// Thrown by a read from an empty stream: hardware would wait here for ever.
struct stream_underflow : std::exception {
  const char* name;
  explicit stream_underflow(const char* stream_name) : name(stream_name) {}
  const char* what() const noexcept override { return name; }
};

template <typename T, std::size_t kDepth = 0>
class stream {
  E2HLS_REQUIRE_WORD(T);

 public:
  stream() : stream("") {}
  explicit stream(const char* name) : name_(name) {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  bool empty() const { return head_ == queue_.size(); }
  bool full() const { return false; }
  std::size_t size() const { return queue_.size() - head_; }

  T read() {
    if (empty()) throw stream_underflow(name_);
    const T value = queue_[head_++];
    if (empty()) {
      queue_.clear();
      head_ = 0;
    }
    return value;
  }
  void read(T& value) { value = read(); }
  void write(const T& value) { queue_.push_back(value); }
  void operator>>(T& value) { value = read(); }
  void operator<<(const T& value) { write(value); }

 private:
  const char* name_;
  std::vector<T> queue_;
  std::size_t head_ = 0;
};

}  // namespace hls

#endif  // E2HLS_HLS_STREAM_NATIVE_H
