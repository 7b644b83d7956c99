// SPDX-License-Identifier: Apache-2.0
// What a generated wrapper uses to call a function of arrays and scalars from a kernel of streams.
#ifndef E2HLS_HLS_WRAPPER_H
#define E2HLS_HLS_WRAPPER_H

#include <type_traits>

#include "hls_stream.h"

namespace e2hls {

// The parameters of a function, as the compiler sees them: arrays are pointers already.
template <typename Function>
struct Signature;
template <typename Returned, typename... Parameters>
struct Signature<Returned(Parameters...)> {
  static constexpr int kCount = sizeof...(Parameters);
  using Result = Returned;
  template <int kAt>
  using Parameter = __type_pack_element<kAt, Parameters...>;
};

// What a parameter passes or points at: an element of an outer dimension, or a scalar.
template <typename Parameter>
using Element = std::remove_cv_t<std::remove_pointer_t<std::remove_cvref_t<Parameter>>>;

// The numbers or structs that it consists of, one to a word.
template <typename T>
using Word = std::remove_cv_t<std::remove_all_extents_t<T>>;

template <typename T>
[[gnu::always_inline]] inline void fill(T& variable, hls::stream<Word<T>>& words) {
  variable = words.read();
}
template <typename T, std::size_t kCount>
[[gnu::always_inline]] inline void fill(T (&array)[kCount], hls::stream<Word<T>>& words) {
  for (std::size_t i = 0; i < kCount; ++i) fill(array[i], words);
}

template <typename T>
[[gnu::always_inline]] inline void send(const T& variable, hls::stream<Word<T>>& words) {
  words.write(variable);
}
template <typename T, std::size_t kCount>
[[gnu::always_inline]] inline void send(const T (&array)[kCount], hls::stream<Word<T>>& words) {
  for (std::size_t i = 0; i < kCount; ++i) send(array[i], words);
}

}  // namespace e2hls

#endif  // E2HLS_HLS_WRAPPER_H
