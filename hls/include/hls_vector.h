// SPDX-License-Identifier: Apache-2.0
// A fixed number of elements that travel together, with the vendor's name.
#ifndef E2HLS_HLS_VECTOR_H
#define E2HLS_HLS_VECTOR_H

#include <cstddef>
#include <initializer_list>

#define E2HLS_UNROLL _Pragma("HLS UNROLL")

#ifndef __SYNTHESIS__
  #include "native_error.h"
#endif

namespace hls {

template <typename T, std::size_t kCount>
class vector {
 public:
  using value_type = T;

  vector() = default;
  [[gnu::always_inline]] constexpr vector(const T& value) {
    for (std::size_t i = 0; i < kCount; ++i) {
      #pragma HLS UNROLL
      elements_[i] = value;
    }
  }
  // Elements that are not given are T().
  [[gnu::always_inline]] constexpr vector(std::initializer_list<T> values) {
    for (std::size_t i = 0; i < kCount; ++i) {
      #pragma HLS UNROLL
      elements_[i] = i < values.size() ? values.begin()[i] : T();
    }
  }
  [[gnu::always_inline]] constexpr T& operator[](std::size_t i) { return elements_[checked(i)]; }
  [[gnu::always_inline]] constexpr const T& operator[](std::size_t i) const { return elements_[checked(i)]; }
  [[gnu::always_inline]] static constexpr std::size_t size() { return kCount; }
  [[gnu::always_inline]] constexpr T* begin() { return elements_; }
  [[gnu::always_inline]] constexpr T* end() { return elements_ + kCount; }
  [[gnu::always_inline]] constexpr const T* begin() const { return elements_; }
  [[gnu::always_inline]] constexpr const T* end() const { return elements_ + kCount; }

// Element by element, each result of type T; friends, so that a scalar on either side becomes a vector.
#define E2HLS_ELEMENTWISE(sign)                                                                    \
  [[gnu::always_inline]] friend constexpr vector operator sign(const vector& a, const vector& b) { \
    vector result;                                                                                 \
    for (std::size_t i = 0; i < kCount; ++i) {                                                     \
      E2HLS_UNROLL result.elements_[i] = static_cast<T>(a.elements_[i] sign b.elements_[i]);       \
    }                                                                                              \
    return result;                                                                                 \
  }                                                                                                \
  [[gnu::always_inline]] constexpr vector& operator sign## = (const vector& b) {                   \
    return *this = *this sign b;                                                                   \
  }
  E2HLS_ELEMENTWISE(+)
  E2HLS_ELEMENTWISE(-)
  E2HLS_ELEMENTWISE(*)
  E2HLS_ELEMENTWISE(/)
  E2HLS_ELEMENTWISE(%)
  E2HLS_ELEMENTWISE(&)
  E2HLS_ELEMENTWISE(|)
  E2HLS_ELEMENTWISE(^)
  E2HLS_ELEMENTWISE(<<)
  E2HLS_ELEMENTWISE(>>)
#undef E2HLS_ELEMENTWISE

#define E2HLS_REDUCED(name, sign)                                     \
  [[gnu::always_inline]] constexpr T reduce_##name() const {          \
    T result = elements_[0];                                          \
    for (std::size_t i = 1; i < kCount; ++i) {                        \
      E2HLS_UNROLL result = static_cast<T>(result sign elements_[i]); \
    }                                                                 \
    return result;                                                    \
  }
  E2HLS_REDUCED(add, +)
  E2HLS_REDUCED(mult, *)
  E2HLS_REDUCED(and, &)
  E2HLS_REDUCED(or, |)
  E2HLS_REDUCED(xor, ^)
#undef E2HLS_REDUCED

  [[gnu::always_inline]] constexpr vector operator+() const { return *this; }
  [[gnu::always_inline]] constexpr vector operator-() const { return vector(T(0)) - *this; }
  [[gnu::always_inline]] constexpr vector operator~() const {
    vector result;
    for (std::size_t i = 0; i < kCount; ++i) {
      #pragma HLS UNROLL
      result.elements_[i] = static_cast<T>(~elements_[i]);
    }
    return result;
  }

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
