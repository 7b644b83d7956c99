// SPDX-License-Identifier: Apache-2.0
// What ap_int and ap_uint make of operands: one line per pair of types and operation, with a hash over the
// widths and values of all results. Two arguments, a pair and an operation, print those results themselves.
//
// cases.inc lists the pairs, as NUMBERS(ap_int<3>, ap_uint<5>): all values of narrow types, corners and
// random values of wide ones.
#include "operators.hpp"
#include "record.hpp"

static unsigned long long state = 88172645463325252ull;

static unsigned long long draw() {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

constexpr bool narrow(int width) { return width <= 5; }

// Operand i of a type: of narrow ones all values, else its corners first, then random bits.
template <typename T>
T operand(int i) {
  T value = i;
  if (narrow(T::width) || i < 2) return value;
  if (i <= 4) value = i == 3 ? 0 : -1;
  if (i >= 3 && i <= 4) value[T::width - 1] = i == 3;
  if (i >= 5) {
    for (int at = 0; at < T::width; at += 64) {
      value = (value << (T::width > 64 ? 64 : 0)) ^ T(draw());
    }
  }
  return value;
}
constexpr int operands(int width) { return narrow(width) ? 1 << width : 9; }

static Hashes note;

template <typename A, typename N>
void named_native(const A& a, N n) {
  name_operands(a, ap_int<64>(n));
  native(note, a, n);
}

template <typename A>
void natives(const A& a) {
  named_native(a, true);
  named_native(a, (signed char)-128);
  named_native(a, (unsigned char)200);
  named_native(a, (short)-3);
  named_native(a, 7);
  named_native(a, -2147483647);
  named_native(a, 4000000000u);
  named_native(a, -5L);
  named_native(a, 1ul << 63);
}

template <typename A, typename B>
void references(const A& a, const B& b) {
  const int top = A::width - 1;
  const int step = narrow(A::width) ? 1 : 1 + top / 3;
  for (int low = 0; low <= top; low += step) {
    bit(note, a, b, low);
    for (int high = top; high >= 0; high -= step) {
      range(note, a, b, high, low);
      concat(note, a, b, high, low);
      concat_operators(note, a, b, high, low);
      concat_targets(note, a, b, high, low);
    }
  }
}

// Calls a function with all operands of two types, or of one.
template <typename A, typename B, typename Do>
void each_pair(const char* name, Do act) {
  current_pair = name;
  for (int i = 0; i < operands(A::width); ++i) {
    for (int j = 0; j < operands(B::width); ++j) {
      const A a = operand<A>(i);
      const B b = operand<B>(j);
      name_operands(a, b);
      act(a, b);
    }
  }
  print_hashes();
}
#define NUMBERS(a, b) each_pair<a, b>(#a " " #b, [](const a& x, const b& y) { numbers(note, x, y); })
#define REFERENCES(a, b) each_pair<a, b>(#a " " #b, [](const a& x, const b& y) { references(x, y); })
#define ALONE(a)                                                   \
  each_pair<a, ap_uint<1>>(#a, [](const a& x, const ap_uint<1>&) { \
    alone(note, x);                                                \
    for (int by = 0; by < a::width; ++by) shifts(note, x, by);     \
    shifts_beyond(note, x);                                        \
  })
#define NATIVES(a) each_pair<a, ap_uint<1>>(#a, [](const a& x, const ap_uint<1>&) { natives(x); })

int main(int count, char** arguments) {
  if (count == 3) {
    shown_pair = arguments[1];
    shown_operation = arguments[2];
  }
#include "cases.inc"
  return 0;
}
