// SPDX-License-Identifier: Apache-2.0
// What ap_fixed and ap_ufixed make of operands: one line per pair of types and operation, with a hash over
// the formats and bits of all results. Two arguments, a pair and an operation, print those results
// themselves.
//
// cases.inc lists them, as PAIR(a, b) for the operators and CONVERTED(from, signed, width, integer bits) for
// all modes of rounding and overflow: all values of narrow types, corners and random values of wide ones.
#include <ap_fixed.h>
#include <ap_int.h>

#include "record.hpp"

static unsigned long long state = 88172645463325252ull;

static unsigned long long draw() {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static Hashes note;

template <int kWidth, int kInteger, bool kSigned, ap_q_mode kRounding, ap_o_mode kOverflow, int kSaturated>
void note_fixed(const char* operation,
                const ap_fixed_base<kWidth, kInteger, kSigned, kRounding, kOverflow, kSaturated>& x) {
  ap_uint<kWidth> bits = x.range(kWidth - 1, 0);
  note(operation, bits);
  note(operation, kInteger * 2 + kSigned);
}

constexpr int operands(int width) { return width <= 7 ? 1 << width : 100; }
template <typename T>
T operand(int i) {
  T value;
  const unsigned long long corner = i == 1 ? 1 : i == 2 ? 1ull << (T::width - 1) : i == 3 ? ~0ull : 0;
  value.range(T::width - 1, 0) = T::width <= 7 ? i : i < 4 ? corner : draw();
  return value;
}
template <typename T>
ap_uint<T::width> bits_of(const T& x) {
  return x.range(T::width - 1, 0);
}

template <typename A, typename B>
void operators(const A& a, const B& b) {
  note_fixed("+", a + b);
  note_fixed("-", a - b);
  note_fixed("*", a * b);
  note_fixed("&", a & b);
  note_fixed("|", a | b);
  note_fixed("^", a ^ b);
  if (b != 0) note_fixed("/", a / b);
  note("<", a < b);
  note("<=", a <= b);
  note(">", a > b);
  note(">=", a >= b);
  note("==", a == b);
  note("!=", a != b);
  A c = a;
  note_fixed("+=", c += b);
  note_fixed("-=", c -= b);
  note_fixed("*=", c *= b);
  c = b;
  note_fixed("=", c);
}

template <typename A>
void alone(const A& a) {
  note_fixed("-", -a);
  note_fixed("~", ~a);
  note("!", !a);
  A c = a;
  note_fixed("++", ++c);
  note_fixed("--", c--);
  note_fixed("+ 3", a + 3);
  note_fixed("5u - ", 5u - a);
  note_fixed("* ap_int", a * ap_int<5>(-7));
  note("== 1", a == 1);
  for (int by = 0; by < A::width + 2; ++by) {
    note_fixed("<<", a << by);
    note_fixed(">>", a >> by);
  }
  note("to_int", a.to_int());
  note("int", (int)a);
  note("bool", (bool)a);
  ap_int<6> narrow = a;
  note("ap_int", narrow);
  ap_uint<9> part = 0;
  part.range(7, 1) = a;
  note("range", part);
  note_fixed("from ap_int", A(ap_int<9>(ap_int<9>(a.to_int() * 3))));
  note_fixed("from int", A(a.to_int() - 5));
}

static const double kDoubles[] = {0.0,  -0.0,  0.5,    -0.5,   0.25,    -0.25,   0.375,    -0.375, 1.0,
                                  -1.0, 1.625, -1.625, 3.0625, -3.0625, 7.96875, -7.96875, 100.7,  -100.7,
                                  1e-9, -1e-9, 1e9,    -1e9,   1e300,   -1e300,  5e-324,   0.1,    -0.3};

template <bool kSigned, int kWidth, int kInteger, ap_q_mode kRounding, ap_o_mode kOverflow, typename A>
void converted(const char* name, const A& a, int i) {
  ap_fixed_base<kWidth, kInteger, kSigned, kRounding, kOverflow> x;
  x = a;
  note_fixed(name, x);
  if (i < (int)(sizeof kDoubles / sizeof *kDoubles)) {
    x = kDoubles[i];
    note_fixed(name, x);
  }
}
#define OVERFLOWS(rounding, a)                                                          \
  converted<kSigned, kWidth, kInteger, rounding, AP_SAT>(#rounding " SAT", a, i);       \
  converted<kSigned, kWidth, kInteger, rounding, AP_SAT_ZERO>(#rounding " ZERO", a, i); \
  converted<kSigned, kWidth, kInteger, rounding, AP_SAT_SYM>(#rounding " SYM", a, i);   \
  converted<kSigned, kWidth, kInteger, rounding, AP_WRAP>(#rounding " WRAP", a, i)

template <typename A, bool kSigned, int kWidth, int kInteger>
void each_mode(const char* name) {
  current_pair = name;
  for (int i = 0; i < operands(A::width); ++i) {
    const A a = operand<A>(i);
    name_operands(bits_of(a), ap_uint<8>(i));
    OVERFLOWS(AP_RND, a);
    OVERFLOWS(AP_RND_ZERO, a);
    OVERFLOWS(AP_RND_MIN_INF, a);
    OVERFLOWS(AP_RND_INF, a);
    OVERFLOWS(AP_RND_CONV, a);
    OVERFLOWS(AP_TRN, a);
    OVERFLOWS(AP_TRN_ZERO, a);
  }
  print_hashes();
}

template <typename A, typename B>
void each_pair(const char* name) {
  current_pair = name;
  for (int i = 0; i < operands(A::width); ++i) {
    const A a = operand<A>(i);
    name_operands(bits_of(a), ap_uint<1>(0));
    alone(a);
    for (int j = 0; j < operands(B::width); ++j) {
      const B b = operand<B>(j);
      name_operands(bits_of(a), bits_of(b));
      operators(a, b);
    }
  }
  print_hashes();
}
#define NAMED(...) #__VA_ARGS__
#define PAIR(a, b) each_pair<a, b>(NAMED(a b))
#define CONVERTED(a, is_signed, width, integer) \
  each_mode<a, is_signed, width, integer>(NAMED(a to is_signed width integer))

int main(int count, char** arguments) {
  if (count == 3) {
    shown_pair = arguments[1];
    shown_operation = arguments[2];
  }
#include "cases.inc"
  return 0;
}
