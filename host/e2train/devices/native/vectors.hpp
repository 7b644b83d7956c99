// SPDX-License-Identifier: Apache-2.0
// Vectors of 16 lanes, one lane per channel of a block, as the compiler's own vector types.
//
// Only `dot_pairs` names instructions; without them it is two plain multiplications with the same sums.
#pragma once

#include <cstdint>
#include <cstring>

#if !defined(E2_PORTABLE) && defined(__AVX2__)
  #include <immintrin.h>
#endif

namespace e2 {

constexpr int kLanes = 16;

template <typename T>
using Lanes = T __attribute__((ext_vector_type(16)));
using Pairs = int16_t __attribute__((ext_vector_type(32)));  // 16 lanes of two neighbours each

template <typename V>
inline V load(const void* from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename V>
inline void store(void* to, V value) {
  std::memcpy(to, &value, sizeof value);
}

template <typename To, typename V>
inline Lanes<To> convert(V value) {
  return __builtin_convertvector(value, Lanes<To>);
}

// Lane by lane: a[0], b[0], a[1], b[1], ...
inline Pairs interleave(Lanes<int16_t> a, Lanes<int16_t> b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25,
                                 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// The two int16 at `from`, in every lane.
inline Pairs broadcast_pair(const int16_t* from) {
  int32_t both;
  std::memcpy(&both, from, sizeof both);
  const Lanes<int32_t> spread = both;
  return load<Pairs>(&spread);
}

// acc + a[2i]*b[2i] + a[2i+1]*b[2i+1] in each lane i; the caller has bounded the sums.
inline Lanes<int32_t> dot_pairs(Lanes<int32_t> acc, Pairs a, Pairs b) {
#if !defined(E2_PORTABLE) && defined(__AVX512VNNI__)
  const __m512i sum = _mm512_dpwssd_epi32(load<__m512i>(&acc), load<__m512i>(&a), load<__m512i>(&b));
  return load<Lanes<int32_t>>(&sum);
#elif !defined(E2_PORTABLE) && defined(__AVX512BW__)
  const __m512i sum = _mm512_madd_epi16(load<__m512i>(&a), load<__m512i>(&b));
  return acc + load<Lanes<int32_t>>(&sum);
#elif !defined(E2_PORTABLE) && defined(__AVX2__)
  __m256i halves[2], left[2], right[2];
  std::memcpy(left, &a, sizeof a);
  std::memcpy(right, &b, sizeof b);
  halves[0] = _mm256_madd_epi16(left[0], right[0]);
  halves[1] = _mm256_madd_epi16(left[1], right[1]);
  return acc + load<Lanes<int32_t>>(halves);
#else
  const Lanes<int16_t> even_a = a.even, odd_a = a.odd, even_b = b.even, odd_b = b.odd;
  return acc + convert<int32_t>(even_a) * convert<int32_t>(even_b) +
         convert<int32_t>(odd_a) * convert<int32_t>(odd_b);
#endif
}

// Pixels or channels that share one loaded operand: as many as there are registers for.
#if defined(__AVX512F__)
constexpr int kTile = 8;
#else
constexpr int kTile = 4;
#endif

inline Lanes<int32_t> max(Lanes<int32_t> a, Lanes<int32_t> b) { return __builtin_elementwise_max(a, b); }
inline Lanes<int32_t> min(Lanes<int32_t> a, Lanes<int32_t> b) { return __builtin_elementwise_min(a, b); }
inline Lanes<int32_t> magnitude(Lanes<int32_t> a) { return __builtin_elementwise_abs(a); }

}  // namespace e2
