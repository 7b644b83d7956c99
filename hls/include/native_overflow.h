// SPDX-License-Identifier: Apache-2.0
// What the native build of a check notes of numbers of C++ that overflow: it goes on with what wraps around.
//
// The generated main file includes it in place of native_harness.h, and ends with E2HLS_NATIVE_OVERFLOW too.
#ifndef E2HLS_NATIVE_OVERFLOW_H
#define E2HLS_NATIVE_OVERFLOW_H

#define __ubsan_handle_divrem_overflow e2hls_handle_division_by_zero
#include <native_harness.h>
#undef __ubsan_handle_divrem_overflow

extern "C" {
void __ubsan_handle_add_overflow(void* place, void* left, void* right);
void __ubsan_handle_sub_overflow(void* place, void* left, void* right);
void __ubsan_handle_mul_overflow(void* place, void* left, void* right);
void __ubsan_handle_negate_overflow(void* place, void* value);
void __ubsan_handle_divrem_overflow(void* place, void* dividend, void* divisor);
}

namespace e2hls {

struct Operation {
  const char* file;
  std::uint32_t line;
  std::uint32_t column;
  const CheckedType* type;
};

struct Overflow {
  std::string text;
  const void* place = nullptr;
};
inline Overflow first_overflow;

inline std::string checked_operand(const void* operation, const void* value) {
  return checked_number(*static_cast<const Operation*>(operation)->type, value);
}

// What overflows, in words; the first one is kept.
inline std::string overflow_of(const void* operation, const std::string& expression) {
  const std::string type = static_cast<const Operation*>(operation)->type->name;
  return expression + " overflows " + type.substr(1, type.find('\'', 1) - 1) +
         ", which C++ leaves undefined; use a wider type, an unsigned one or ap_int";
}
inline void note_overflow(const void* operation, const std::string& expression, const void* place) {
  if (first_overflow.place == nullptr) first_overflow = {overflow_of(operation, expression), place};
}

}  // namespace e2hls

// Called by what -fsanitize=signed-integer-overflow puts behind each operation.
#define E2HLS_NOTE_OVERFLOW(name, sign)                                                                      \
  [[gnu::noinline, gnu::cold]] void __ubsan_handle_##name##_overflow(void* place, void* left, void* right) { \
    using e2hls::checked_operand;                                                                            \
    e2hls::note_overflow(place, checked_operand(place, left) + sign + checked_operand(place, right),         \
                         __builtin_return_address(0));                                                       \
  }
E2HLS_NOTE_OVERFLOW(add, " + ")
E2HLS_NOTE_OVERFLOW(sub, " - ")
E2HLS_NOTE_OVERFLOW(mul, " * ")
#undef E2HLS_NOTE_OVERFLOW
[[gnu::noinline, gnu::cold]] void __ubsan_handle_negate_overflow(void* place, void* value) {
  e2hls::note_overflow(place, "-(" + e2hls::checked_operand(place, value) + ")", __builtin_return_address(0));
}
// A division by 0 comes here as well. Neither has a result to go on with.
[[gnu::noinline, gnu::cold]] void __ubsan_handle_divrem_overflow(void* place, void* dividend, void* divisor) {
  const std::string by = e2hls::checked_operand(place, divisor);
  e2hls::escape_with(
      by == "0"
          ? "division by 0; test the divisor first"
          : e2hls::overflow_of(place, "the division " + e2hls::checked_operand(place, dividend) + " / " + by),
      __builtin_return_address(0));
}

#define E2HLS_NATIVE_OVERFLOW                                                                               \
  extern "C" {                                                                                              \
  const char* e2hls_overflow() { return e2hls::first_overflow.text.c_str(); }                               \
  std::size_t e2hls_overflow_place() {                                                                      \
    return static_cast<std::size_t>(static_cast<const char*>(e2hls::first_overflow.place) - &__ehdr_start); \
  }                                                                                                         \
  }

#endif  // E2HLS_NATIVE_OVERFLOW_H
