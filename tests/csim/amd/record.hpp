// SPDX-License-Identifier: Apache-2.0
// Notes the results of operations: a hash for each pair of types and operation, or all of one of them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <type_traits>

static std::string current_pair, current_operands, shown_pair, shown_operation;
static std::map<std::string, std::uint64_t> hashes;  // by operation, of the current pair

// 64 bits each, lowest first; the last one of an ap_int is extended.
template <int kWidth, bool kSigned>
void limbs_of(const ap_int_base<kWidth, kSigned>& value, unsigned long long* limbs) {
  constexpr int kLimbs = (kWidth + 63) / 64;
  for (int i = 0; i < kLimbs; ++i) {
    limbs[i] = kLimbs == 1 ? value.to_uint64()
                           : ap_int<kWidth + 1>(ap_int<kWidth + 1>(value) >> (64 * i)).to_uint64();
  }
}

static void mix(const char* operation, const unsigned long long* limbs, int count) {
  std::uint64_t& hash = hashes.emplace(operation, 14695981039346656037ull).first->second;
  for (int i = 0; i < count; ++i) hash = ((hash ^ limbs[i]) * 1099511628211ull) ^ hash >> 29;
  if (current_pair != shown_pair || operation != shown_operation) return;
  std::printf("%s:", current_operands.c_str());
  for (int i = count; i-- > 0;) std::printf(" %llx", limbs[i]);
  std::printf("\n");
}

struct Hashes {
  template <int kWidth, bool kSigned>
  void operator()(const char* operation, const ap_int_base<kWidth, kSigned>& value) {
    constexpr int kLimbs = (kWidth + 63) / 64;
    unsigned long long limbs[kLimbs + 1];
    limbs_of(value, limbs);
    limbs[kLimbs] = kWidth * 2 + kSigned;
    mix(operation, limbs, kLimbs + 1);
  }
  template <typename T, std::enable_if_t<std::is_integral<T>::value, int> = 0>
  void operator()(const char* operation, T value) {
    const unsigned long long limbs[] = {static_cast<unsigned long long>(value),
                                        sizeof(T) * 2 + std::is_signed<T>::value};
    mix(operation, limbs, 2);
  }
  template <typename T>
  void skip(const char*) {}
};

static void print_hashes() {
  for (const auto& each : hashes) {
    std::printf("%s|%s %016llx\n", current_pair.c_str(), each.first.c_str(), (unsigned long long)each.second);
  }
  hashes.clear();
}

template <typename A, typename B>
void name_operands(const A& a, const B& b) {
  if (current_pair != shown_pair) return;
  char text[64];
  std::snprintf(text, sizeof text, "%llx %llx", (unsigned long long)a.to_uint64(),
                (unsigned long long)b.to_uint64());
  current_operands = text;
}
