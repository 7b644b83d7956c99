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

template <typename T, int kDepth = 0>
class stream;

template <typename T>
class stream<T, 0> {
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
  // Inlined and copied first: only there is it known what array the value is an element of.
  [[gnu::always_inline]] void write(const T& value) {
    const T word = value;
    queue_.push_back(word);
    if (written_ != nullptr) written_(owner_);
  }
  // Call a function, with what it works on, after each word that is written.
  void on_write(void (*written)(void*), void* owner) {
    written_ = written;
    owner_ = owner;
  }
  bool read_nb(T& value) {
    if (empty()) return false;
    value = read();
    return true;
  }
  bool write_nb(const T& value) {
    write(value);
    return true;
  }
  void operator>>(T& value) { value = read(); }
  void operator<<(const T& value) { write(value); }

 private:
  const char* name_;
  std::vector<T> queue_;
  std::size_t head_ = 0;
  void (*written_)(void*) = nullptr;
  void* owner_ = nullptr;
};

template <typename T, int kDepth>
class stream : public stream<T, 0> {
 public:
  using stream<T, 0>::stream;
};

}  // namespace hls

#endif  // E2HLS_HLS_STREAM_NATIVE_H
