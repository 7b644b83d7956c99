// SPDX-License-Identifier: Apache-2.0
// What ap_int and ap_uint make of operands: one line per pair of types and operation, with a hash over the
// widths and values of all results. Two arguments, a pair and an operation, print those results themselves.
//
// cases.inc lists the pairs, as NUMBERS(ap_int<3>, ap_uint<5>): all values of narrow types, corners and
// random values of wide ones.
#include <ap_int.h>

#include "record.hpp"

// AMD's product of 280 bits loses a carry now and then.
#define EACH_ARITHMETIC(name, a, b) \
  note(name " +", (a) + (b));       \
  note(name " -", (a) - (b));       \
  if (at_most(256, (a) * (b))) {    \
    note(name " *", (a) * (b));     \
  }                                 \
  note(name " &", (a) & (b));       \
  note(name " |", (a) | (b));       \
  note(name " ^", (a) ^ (b))
// AMD's division of wide numbers is wrong now and then: (2^128 + 2^64) % (2^127 + 1), say.
#define EACH_DIVISION(name, a, b)                               \
  if (at_most(65, (a) - (b)) && (unsigned long long)(b) != 0) { \
    note(name " /", (a) / (b));                                 \
    note(name " %", (a) % (b));                                 \
  }
#define EACH_ORDER(name, a, b)  \
  note(name " <", (a) < (b));   \
  note(name " <=", (a) <= (b)); \
  note(name " >", (a) > (b));   \
  note(name " >=", (a) >= (b))
#define EACH_EQUALITY(name, a, b) \
  note(name " ==", (a) == (b));   \
  note(name " !=", (a) != (b))
#define EACH(name, a, b)       \
  EACH_ARITHMETIC(name, a, b); \
  EACH_DIVISION(name, a, b);   \
  EACH_ORDER(name, a, b);      \
  EACH_EQUALITY(name, a, b)
#define EACH_ASSIGNMENT(name, a, b)                             \
  ASSIGN(name, +=, a, b);                                       \
  ASSIGN(name, -=, a, b);                                       \
  ASSIGN(name, *=, a, b);                                       \
  ASSIGN(name, &=, a, b);                                       \
  ASSIGN(name, |=, a, b);                                       \
  ASSIGN(name, ^=, a, b);                                       \
  if (at_most(65, (a) - (b)) && (unsigned long long)(b) != 0) { \
    ASSIGN(name, /=, a, b);                                     \
    ASSIGN(name, %=, a, b);                                     \
  }
#define ASSIGN(name, sign, a, b)   \
  {                                \
    auto changed = a;              \
    changed sign(b);               \
    note(name " " #sign, changed); \
  }

static unsigned long long state = 88172645463325252ull;

static unsigned long long draw() {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

template <int kWidth, bool kSigned>
constexpr bool at_most(int width, const ap_int_base<kWidth, kSigned>&) {
  return kWidth <= width;
}
template <typename T, std::enable_if_t<std::is_integral<T>::value, int> = 0>
constexpr bool at_most(int, T) {
  return true;
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

template <typename A, typename B>
void numbers(const A& a, const B& b) {
  EACH("", a, b);
  EACH_ASSIGNMENT("", a, b);
  note("cast", A(b));
  note("<< ap", a << b);
  note(">> ap", a >> b);
  ASSIGN("", <<=, a, b);
  ASSIGN("", >>=, a, b);
}

template <typename A, typename N>
void native(const A& a, N n) {
  name_operands(a, ap_int<64>(n));
  EACH("native", a, n);
  EACH("from native", n, a);
  EACH_ASSIGNMENT("native", a, n);
  note("of native", A(n));
}

template <typename A>
void natives(const A& a) {
  native(a, true);
  native(a, (signed char)-128);
  native(a, (unsigned char)200);
  native(a, (short)-3);
  native(a, 7);
  native(a, -2147483647);
  native(a, 4000000000u);
  native(a, -5L);
  native(a, 1ul << 63);
}

template <typename A>
void alone(const A& a) {
  note("neg", -a);
  note("inv", ~a);
  note("plus", +a);
  note("not", !a);
  note("to", a.to_char());
  note("to", a.to_short());
  note("to", a.to_int());
  note("to", a.to_uint());
  note("to", a.to_long());
  note("to", a.to_ulong());
  note("to", (long)a.to_int64());
  note("to", (unsigned long)a.to_uint64());
  note("implicit", int(a));
  note("implicit", (unsigned char)(a));
  note("length", a.length());
  if (A::width <= 64) note("bool", a.to_bool());  // AMD takes the lowest wide number for zero
  note("and", a.and_reduce());
  note("or", a.or_reduce());
  if (A::width <= 64) note("nand", a.nand_reduce());  // and nand for nor
  note("nor", a.nor_reduce());
  // AMD counts the bits of a signed number's extension, too.
  note("xor", ap_uint<A::width>(a).xor_reduce());
  note("sign", a.sign());
  A up = a, down = a;
  note("++", ++up);
  note("--", --down);
  note("old++", up++);
  note("old--", down--);
}

template <typename A>
void shifts(const A& a) {
  for (int by = 0; by < A::width; ++by) {
    note("<< int", a << by);
    note(">> int", a >> by);
    note(">> ap", a >> ap_uint<8>(by));
    note("<< ap", a << ap_uint<8>(by));
  }
  note(">> width", a >> ap_uint<8>(A::width));
  note("<< width", a << ap_uint<8>(A::width));
  note(">> minus", a >> ap_int<3>(-1));
  note("<< minus", a << -1);
}

// A range, forward or in reverse order, and a bit: read, computed with, written.
template <typename A, typename B>
void range(const A& a, const B& b, int high, int low) {
  const ap_uint<A::width> read = a(high, low);
  note("range", read);
  note("range to", a(high, low).to_int());
  note("range to", a(high, low).to_uint());
  note("range length", a(high, low).length());
  note("range native", (long)a(high, low));
  EACH("range number", a(high, low), b);
  EACH("number range", b, a(high, low));
  EACH("range range", a(high, low), b.range());
  EACH("range native", a(high, low), 5);
  EACH("range native", a(high, low), -3);
  EACH("native range", 5u, a(high, low));
  EACH_ASSIGNMENT("with range", b, a(high, low));
  auto named = a(high, low);
  EACH_ASSIGNMENT("with named range", b, named);
  note("range << number", a(high, low) << b(0, 0));
  note("range >> number", a(high, low) >> ap_uint<3>(1));
  note("range << int", a(high, low) << 2);
  note("range >> int", a(high, low) >> 1);
  note("number >> range", b >> a(high, low));
  note("range neg", -a(high, low));
  note("range inv", ~a(high, low));
  note("range not", !a(high, low));
  A written = a;
  written(high, low) = b;
  note("range = number", written);
  written(high, low) = -3;
  note("range = native", written);
  written.range(high, low) = b(0, B::width - 1);
  note("range = range", written);
  written(high, low) = b[0];
  note("range = bit", written);
  written(high, low) = (b, a);
  note("range = concat", written);
  B assigned = b;
  assigned = a(high, low);
  note("number = range", assigned);
}

template <typename A, typename B>
void bit(const A& constant, const B& b, int at) {
  A a = constant;
  note("get bit", bool(a[at]));
  note("get bit", constant[at]);
  note("get bit", a.test(at));
  EACH("bit number", a[at], b);
  EACH("number bit", b, a[at]);
  EACH_ARITHMETIC("bit bit", a[at], a[0]);
  EACH_EQUALITY("bit bit", a[at], a[0]);
  EACH("bit native", a[at], 3);
  EACH_ARITHMETIC("range bit", b.range(), a[at]);
  EACH_ASSIGNMENT("with bit", b, a[at]);
  note("bit << int", a[at] << 5);
  note("bit >> int", a[at] >> 1);
  note("bit << number", a[at] << ap_uint<2>(0));
  note("bit neg", -a[at]);
  note("bit inv", ~a[at]);
  note("bit not", !a[at]);
  A written = a;
  written[at] = b;
  note("bit = number", written);
  written[at] = 2;
  note("bit = native", written);
  written[at] = !a[at];
  note("bit = bool", written);
  written[at] = a[0];
  note("bit = bit", written);
  written[at] = b(B::width - 1, 0);
  note("bit = range", written);
  B assigned = b;
  assigned = a[at];
  note("number = bit", assigned);
}

template <typename A, typename B>
void concat(const A& a, const B& b, int high, int low) {
  A x = a;
  B y = b;
  note("(number, number)", ap_uint<A::width + B::width>((x, y)));
  note("(range, number)", ap_uint<A::width + B::width>((a(high, low), b)));
  note("(number, range)", ap_uint<A::width + B::width>((b, a(high, low))));
  note("(range, range)", ap_uint<A::width + B::width>((a(high, low), b(0, B::width - 1))));
  note("(range, range)", ap_uint<2 * A::width>((a(low, 0), a(A::width - 1, high))));
  note("(bit, number)", ap_uint<1 + B::width>((x[high], y)));
  note("(number, bit)", ap_uint<1 + B::width>((b, x[low])));
  note("(bit, bit)", ap_uint<2>((x[high], x[low])));
  note("(bit, range)", ap_uint<1 + A::width>((x[low], x(high, low))));
  note("((range, bit), number)", ap_uint<A::width + 1 + B::width>((x(high, low), x[low], y)));
  note("(number, (range, number))", ap_uint<2 * A::width + B::width>((x, (x(high, low), y))));
  note("((range, bit), (bit, range))",
       ap_uint<2 * A::width + 2>(((x(high, low), x[0]), (x[low], x(low, high)))));
  note("concat length", (x(high, low), y).length());
  note("concat narrow", ap_int<3>((x, y)));
  note("number.concat", ap_uint<A::width + B::width>(x.concat(y)));
  note("(number, int)", (x, -3));
  note("(int, number)", (-3, x));
  note("(number, uchar)", (x, (unsigned char)200));
  note("(bool, number)", (true, x));
  note("(range, int)", (x(high, low), -3));
  note("(int, range)", (-3, x(high, low)));
  note("(bit, int)", (x[low], -3));
  note("(int, bit)", (-3, x[low]));
  note("(concat, int)", ap_uint<A::width + B::width + 32>((x, y, 5)));
  note("(concat, int)", ap_uint<A::width + B::width + 32>((x(high, low), y, -3)));
  note("(int, concat)", ap_uint<A::width + B::width + 32>((-3, (x(high, low), y))));
}

template <typename A, typename B>
void concat_operators(const A& a, const B& b, int high, int low) {
  A x = a;
  B y = b;
  EACH("concat concat", (x, y), (y, x(high, low)));
  note("concat & number", (x, y) & y);
  note("concat | number", (x, y) | y);
  note("concat ^ number", (x, y) ^ y);
  note("number & concat", y & (x, y));
  note("number | concat", y | (x, y));
  note("number ^ concat", y ^ (x, y));
  EACH_ORDER("concat number", (x, y), y);
  EACH_EQUALITY("concat number", (x, y), y);
  EACH_ORDER("number concat", y, (x, y));
  EACH_EQUALITY("number concat", y, (x, y));
  EACH("concat native", (x, y), 5);
  EACH("native concat", 5u, (x, y));
  EACH("concat range", (x, y), x(high, low));
  EACH_ARITHMETIC("concat bit", (x, y), x[low]);
  EACH_ASSIGNMENT("with concat", b, (x, y));
  note("concat << int", (x, y) << 2);
  note("concat >> int", (x, y) >> 1);
  note("concat << concat", (x, y) << (x[0], x[low]));
  note("concat neg", -(x, y));
  note("concat inv", ~(x, y));
  note("concat not", !(x, y));
}

// A concatenation as a target.
#define TARGET(name, target, value) \
  {                                 \
    A x = a;                        \
    B y = b;                        \
    target = value;                 \
    note(name, x);                  \
    note(name, y);                  \
  }
template <typename A, typename B>
void concat_targets(const A& a, const B& b, int high, int low) {
  const ap_int<A::width + B::width + 1> wide = (a, b);
  TARGET("(number, number) =", (x, y), wide);
  TARGET("(number, number) = native", (x, y), -3);
  TARGET("(range, number) =", (x(high, low), y), wide);
  TARGET("(number, range) =", (y, x(high, low)), wide);
  TARGET("(range, range) =", (x(high, low), x(low, low)), wide);
  TARGET("(bit, range) =", (x[low], y(0, B::width - 1)), wide);
  TARGET("(bit, bit) =", (x[high], y[0]), wide);
  TARGET("((bit, range), number) =", (x[high], x(high, low), y), wide);
  TARGET("(number, (bit, range)) =", (y, (x[high], x(low, high))), wide);
  TARGET("concat = concat", (x(high, low), y), (y, x(high, low)));
  TARGET("concat = other concat", (x(high, low), y), (x[0], y[0]));
  TARGET("concat = range", (x, y), a(high, low));
  TARGET("concat = bit", (x, y), y[0]);
  TARGET("number = concat", x, (y, x[low]));
  TARGET("bit = concat", x[low], (y(0, 0), y(0, 0)));
}

template <typename A, typename B>
void references(const A& a, const B& b) {
  const int top = A::width - 1;
  const int step = narrow(A::width) ? 1 : 1 + top / 3;
  for (int low = 0; low <= top; low += step) {
    bit(a, b, low);
    for (int high = top; high >= 0; high -= step) {
      range(a, b, high, low);
      concat(a, b, high, low);
      concat_operators(a, b, high, low);
      concat_targets(a, b, high, low);
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
#define NUMBERS(a, b) each_pair<a, b>(#a " " #b, [](const a& x, const b& y) { numbers(x, y); })
#define REFERENCES(a, b) each_pair<a, b>(#a " " #b, [](const a& x, const b& y) { references(x, y); })
#define ALONE(a)                                                   \
  each_pair<a, ap_uint<1>>(#a, [](const a& x, const ap_uint<1>&) { \
    alone(x);                                                      \
    shifts(x);                                                     \
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
