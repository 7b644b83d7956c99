// SPDX-License-Identifier: Apache-2.0
// Every operation of ap_int and ap_uint, in groups: note(name, result) takes each result, and
// note.skip<type>(name) stands for one that the operands rule out.
#pragma once

#include <ap_int.h>

#include <type_traits>

#ifndef MOST_DIVIDED_BITS
// AMD's division of wide numbers is wrong now and then: (2^128 + 2^64) % (2^127 + 1), say.
  #define MOST_DIVIDED_BITS 65
#endif

template <int kWidth, bool kSigned>
constexpr bool at_most(int width, const ap_int_base<kWidth, kSigned>&) {
  return kWidth <= width;
}
template <typename T, std::enable_if_t<std::is_integral<T>::value, int> = 0>
constexpr bool at_most(int width, T) {
  return 8 * static_cast<int>(sizeof(T)) <= width;
}

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
#define NOTE_IF(condition, name, value)                      \
  if (condition) {                                           \
    note(name, value);                                       \
  } else {                                                   \
    note.template skip<std::decay_t<decltype(value)>>(name); \
  }
#define EACH_DIVISION(name, a, b)                      \
  if (at_most(MOST_DIVIDED_BITS, (a) - (b))) {         \
    const bool divides = (unsigned long long)(b) != 0; \
    NOTE_IF(divides, name " /", (a) / (b))             \
    NOTE_IF(divides, name " %", (a) % (b))             \
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
#define EACH_ASSIGNMENT(name, a, b)            \
  EACH_ARITHMETIC_ASSIGNMENT(name, a, b);      \
  if (at_most(MOST_DIVIDED_BITS, (a) - (b))) { \
    EACH_DIVISION_ASSIGNMENT(name, a, b);      \
  }
#define EACH_ARITHMETIC_ASSIGNMENT(name, a, b) \
  ASSIGN(name, +=, a, b);                      \
  ASSIGN(name, -=, a, b);                      \
  ASSIGN(name, *=, a, b);                      \
  ASSIGN(name, &=, a, b);                      \
  ASSIGN(name, |=, a, b);                      \
  ASSIGN(name, ^=, a, b)
#define EACH_DIVISION_ASSIGNMENT(name, a, b)           \
  {                                                    \
    const bool divides = (unsigned long long)(b) != 0; \
    ASSIGN_IF(divides, name, /=, a, b)                 \
    ASSIGN_IF(divides, name, %=, a, b)                 \
  }
#define ASSIGN(name, sign, a, b) ASSIGN_IF(true, name, sign, a, b)
#define ASSIGN_IF(condition, name, sign, a, b)  \
  {                                             \
    auto changed = a;                           \
    if (condition) {                            \
      changed sign(b);                          \
    }                                           \
    NOTE_IF(condition, name " " #sign, changed) \
  }

template <typename Note, typename A, typename B>
void numbers(Note& note, const A& a, const B& b) {
  EACH("", a, b);
  EACH_ASSIGNMENT("", a, b);
  note("cast", A(b));
  note("<< ap", a << b);
  note(">> ap", a >> b);
  ASSIGN("", <<=, a, b);
  ASSIGN("", >>=, a, b);
}

template <typename Note, typename A, typename N>
void native(Note& note, const A& a, N n) {
  EACH("native", a, n);
  EACH("from native", n, a);
  EACH_ASSIGNMENT("native", a, n);
  note("of native", A(n));
}

template <typename Note, typename A>
void alone(Note& note, const A& a) {
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

template <typename Note, typename A>
void shifts(Note& note, const A& a, int by) {
  note("<< int", a << by);
  note(">> int", a >> by);
  note(">> ap", a >> ap_uint<8>(by));
  note("<< ap", a << ap_uint<8>(by));
}
template <typename Note, typename A>
void shifts_beyond(Note& note, const A& a) {
  note(">> width", a >> ap_uint<8>(A::width));
  note("<< width", a << ap_uint<8>(A::width));
  note(">> minus", a >> ap_int<3>(-1));
  note("<< minus", a << -1);
}

// A range, forward or in reverse order, and a bit: read, computed with, written.
template <typename Note, typename A, typename B>
void range(Note& note, const A& a, const B& b, int high, int low) {
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
  EACH_ARITHMETIC_ASSIGNMENT("with range", b, a(high, low));
  // A range without a name decays to 64 bits; a sign makes that a division of 65.
  constexpr int kDivided = std::is_same<B, ap_int<B::width>>::value ? 65 : B::width;
  if (kDivided <= MOST_DIVIDED_BITS && at_most(MOST_DIVIDED_BITS, b - a(high, low))) {
    EACH_DIVISION_ASSIGNMENT("with range", b, a(high, low));
  }
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

template <typename Note, typename A, typename B>
void bit(Note& note, const A& constant, const B& b, int at) {
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

template <typename Note, typename A, typename B>
void concat(Note& note, const A& a, const B& b, int high, int low) {
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

template <typename Note, typename A, typename B>
void concat_operators(Note& note, const A& a, const B& b, int high, int low) {
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
template <typename Note, typename A, typename B>
void concat_targets(Note& note, const A& a, const B& b, int high, int low) {
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
