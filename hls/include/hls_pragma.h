// SPDX-License-Identifier: Apache-2.0
// What `#pragma HLS` lines become under synthesis: calls that the compiler knows by name and takes out again.
#ifndef E2HLS_HLS_PRAGMA_H
#define E2HLS_HLS_PRAGMA_H

void __hls_mark_pipeline(int interval) noexcept;
void __hls_mark_unroll(int factor) noexcept;
void __hls_mark_dataflow() noexcept;
void __hls_mark_axis(const volatile void* stream) noexcept;
void __hls_mark_depth(const volatile void* stream, int step, int depth) noexcept;
void __hls_mark_partition(const volatile void* array, int step, int dimension, int kind, int factor) noexcept;
void __hls_mark_interface() noexcept;

namespace e2hls {

template <bool kCondition>
constexpr bool kIf = kCondition;
constexpr int kAuto = -0x7fffffff;  // an interval that nobody asked for

// A parameter written as an array is a pointer already.
template <typename T>
[[gnu::always_inline]] inline const volatile void* address(T& variable) {
  return &variable;
}
template <typename T>
[[gnu::always_inline]] inline const volatile void* address(T*& array) {
  return array;
}
template <typename T>
[[gnu::always_inline]] inline const volatile void* address(T* const& array) {
  return array;
}

// Bytes from one element to the next, 0 for what is no array: it tells a row from the array that it lies in.
template <typename T>
constexpr int kStep = 0;
template <typename T>
constexpr int kStep<T&> = kStep<T>;
template <typename T, decltype(sizeof(0)) kCount>
constexpr int kStep<T[kCount]> = sizeof(T);
template <typename T>
constexpr int kStep<T*> = sizeof(T);
template <typename T>
constexpr int kStep<T* const> = sizeof(T);

}  // namespace e2hls

#endif  // E2HLS_HLS_PRAGMA_H
