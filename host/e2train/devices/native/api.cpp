// SPDX-License-Identifier: Apache-2.0
// The functions that Python finds in the library. They return 0, or 1 where the machine has no memory left.
#include "api.hpp"

#include <new>

namespace {

template <typename Call>
int guarded(void* pool, uint8_t* memory, int samples, Call& call) {
  try {
    e2::run(*static_cast<e2::Pool*>(pool), memory, samples, call);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

void* e2_pool_new(int threads) { return new e2::Pool(threads); }
void e2_pool_delete(void* pool) { delete static_cast<e2::Pool*>(pool); }
int e2_convolution(void* pool, uint8_t* memory, int samples, e2::Convolution& call) {
  return guarded(pool, memory, samples, call);
}
int e2_weight_gradient(void* pool, uint8_t* memory, int samples, e2::WeightGradient& call) {
  return guarded(pool, memory, samples, call);
}
int e2_affine(void* pool, uint8_t* memory, int samples, e2::Affine& call) {
  return guarded(pool, memory, samples, call);
}
int e2_reduce(void* pool, uint8_t* memory, int samples, e2::Reduction& call) {
  return guarded(pool, memory, samples, call);
}
}
#pragma GCC visibility pop
