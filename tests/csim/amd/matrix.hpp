// SPDX-License-Identifier: Apache-2.0
// The groups of operations on one set of operands, which cases.inc lists as NUMBERS(ap_int<3>, ap_uint<5>).
// A kernel and a program of AMD's headers include this, so that their results lie alike.
#pragma once

#include <utility>

#include "operators.hpp"

// Where a result of some bits lies, the lowest free place being `at`: within one limb of 64 bits, or from the
// start of one.
constexpr int placed(int at, int width) { return at % 64 + width > 64 ? (at + 63) / 64 * 64 : at; }

template <int kWidth, bool kSigned>
std::integral_constant<int, kWidth> width_of(const ap_int_base<kWidth, kSigned>&);
template <typename T, std::enable_if_t<std::is_integral<T>::value, int> = 0>
std::integral_constant<int, std::is_same<T, bool>::value ? 1 : 8 * sizeof(T)> width_of(T);
template <typename T>
using WidthOf = decltype(width_of(std::declval<T>()));

// Operands of all types are the low bits of a and b; a bit's place that a type lacks is its highest.
template <typename Note, typename Operand>
void all_cases(Note& note, const Operand& a, const Operand& b, int high, int low) {
#define ON(A, B, ...)                                     \
  {                                                       \
    const A x = a;                                        \
    const B y = b;                                        \
    const int hi = high < A::width ? high : A::width - 1; \
    const int lo = low < A::width ? low : A::width - 1;   \
    note.begin(#A " " #B);                                \
    (void)y, (void)hi, (void)lo;                          \
    __VA_ARGS__;                                          \
  }
#define NUMBERS(A, B) ON(A, B, numbers(note, x, y))
#define RANGE(A, B) ON(A, B, range(note, x, y, hi, lo))
#define BIT(A, B) ON(A, B, bit(note, x, y, lo))
#define CONCAT(A, B) ON(A, B, concat(note, x, y, hi, lo))
#define CONCAT_OPERATORS(A, B) ON(A, B, concat_operators(note, x, y, hi, lo))
#define CONCAT_TARGETS(A, B) ON(A, B, concat_targets(note, x, y, hi, lo))
#define ALONE(A) ON(A, A, alone(note, x); shifts(note, x, lo); shifts_beyond(note, x))
#define NATIVE(A, N) ON(A, ap_int<64>, native(note, x, static_cast<N>(y.to_int64())))
#include "cases.inc"
}
