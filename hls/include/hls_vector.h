// SPDX-License-Identifier: Apache-2.0
// A fixed number of elements that travel together, with the vendor's name.
#ifndef E2HLS_HLS_VECTOR_H
#define E2HLS_HLS_VECTOR_H

#include <cstddef>

#ifndef __SYNTHESIS__
  #include "native_error.h"
#endif

namespace hls {

template <typename T, std::size_t kCount>
class vector {
 public:
  using value_type = T;

  vector() = default;
  [[gnu::always_inline]] constexpr explicit vector(const T& value) {
    for (std::size_t i = 0; i < kCount; ++i) {
      #pragma HLS UNROLL
      elements_[i] = value;
    }
  }
  [[gnu::always_inline]] constexpr T& operator[](std::size_t i) { return elements_[checked(i)]; }
  [[gnu::always_inline]] constexpr const T& operator[](std::size_t i) const { return elements_[checked(i)]; }
  [[gnu::always_inline]] static constexpr std::size_t size() { return kCount; }

 private:
  [[gnu::always_inline]] static constexpr std::size_t checked(std::size_t i) {
#ifndef __SYNTHESIS__
    if (i >= kCount) {
      [[clang::nomerge]] e2hls::fail_element(static_cast<long long>(i), kCount);
    }
#endif
    return i;
  }

  T elements_[kCount];
};

}  // namespace hls

#endif  // E2HLS_HLS_VECTOR_H
