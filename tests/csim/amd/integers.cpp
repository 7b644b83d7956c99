// SPDX-License-Identifier: Apache-2.0
// Prints what ap_int and ap_uint make of corner and random operands: widths and values, one operation per
// line.
#include <ap_int.h>

#include <cstdio>

static unsigned long long state = 88172645463325252ull;

static unsigned long long draw() {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

template <typename T>
void show(const char* what, const T& value) {
  const ap_int<260> wide = value;
  std::printf("%s %d", what, int(T::width));
  for (int i = 4; i >= 0; --i) {
    const ap_uint<64> limb = wide >> (64 * i);
    std::printf(" %llx", (unsigned long long)limb.to_uint64());
  }
  std::printf("\n");
}
static void native(const char* what, long long value) { std::printf("%s %lld\n", what, value); }

// Operand i of a type: its corners first, then random bits.
template <typename T>
T operand(int i) {
  T value = 0;
  if (i == 1) value = 1;
  if (i == 2) value = -1;
  if (i == 3) value[T::width - 1] = 1;
  if (i == 4) {
    value = -1;
    value[T::width - 1] = 0;
  }
  if (i >= 5) {
    for (int at = 0; at < T::width; at += 64) {
      value = (value << (T::width > 64 ? 64 : 0)) ^ T(draw());
    }
  }
  return value;
}

template <typename A, typename B>
void compare(const A& a, const B& b) {
  if (A::width <= 64 ||
      A::width != B::width) {  // AMD compares wide numbers of one width bit by bit, signs aside
    native("==", a == b);
    native("!=", a != b);
  }
  native("<", a < b);
  native("<=", a <= b);
  native(">", a > b);
  native(">=", a >= b);
}

template <typename A, typename B>
void arithmetic(const A& a, const B& b) {
  show("+", a + b);
  show("-", a - b);
  show("*", a * b);
  show("&", a & b);
  show("|", a | b);
  show("^", a ^ b);
  // AMD's own builds disagree on quotients of a negative and an unsigned number.
  const bool alike = A(-1) < 0 == B(-1) < 0 || (a >= 0 && b >= 0);
  if (b != 0 && alike) {
    show("/", a / b);
    show("%", a % b);
  }
  show("cast", A(b));
  A sum = a, difference = a, product = a;
  sum += b;
  difference -= b;
  product *= b;
  show("+=", sum);
  show("-=", difference);
  show("*=", product);
}

template <typename A>
void alone(A a) {
  show("neg", -a);
  show("inv", A(~a));
  native("not", !a);
  native("int", a.to_int());
  native("uint", a.to_uint());
  native("int64", a.to_int64());
  if (A::width <= 64) native("bool", a.to_bool());  // AMD takes the lowest wide number for zero
  native("and", a.and_reduce());
  native("or", a.or_reduce());
  native("xor",
         ap_uint<A::width>(a).xor_reduce());  // AMD counts the bits of a signed number's extension, too
  A up = a, down = a;
  show("++", ++up);
  show("--", --down);
  show("old++", up++);
  show("with int", a + 3);
  show("from int", 5 - a);
  show("times int", a * -7);
  native("vs int", a < 3);
}

template <typename A>
void shifts(const A& a) {
  for (int by = 0; by < A::width; ++by) {
    show("<<", A(a << by));
    show(">>", A(a >> by));
    show(">> ap", A(a >> ap_uint<8>(by)));
    show("<< ap", A(a << ap_uint<8>(by)));
  }
  show(">> width", A(a >> ap_uint<8>(A::width)));
  show("<< width", A(a << ap_uint<8>(A::width)));
  show(">> minus", A(a >> ap_int<3>(-1)));
}

template <typename A, typename B>
void bits(const A& a, const B& b) {
  const int top = A::width - 1;
  for (int low = 0; low <= top; low += 1 + top / 4) {
    for (int high = low; high <= top; high += 1 + top / 3) {
      const ap_uint<A::width> slice = a(high, low);
      show("slice", slice);
      A written = a;
      written(high, low) = b;
      show("write", written);
      A ranged = a;
      ranged.range(high, low) = ap_uint<3>(5);
      show("range", ranged);
    }
    A flipped = a;
    flipped[low] = !a[low];
    show("bit", flipped);
    native("get", bool(a[low]));
  }
  const ap_uint<A::width + B::width> both = (ap_uint<A::width>(a), ap_uint<B::width>(b));
  show("concat", both);
}

template <typename A, typename B>
void pair(const char* name) {
  std::printf("[%s]\n", name);
  for (int i = 0; i < 9; ++i) {
    for (int j = 0; j < 9; ++j) {
      const A a = operand<A>(i);
      const B b = operand<B>(j);
      arithmetic(a, b);
      compare(a, b);
      if (i == j) bits(a, b);
    }
    alone(operand<A>(i));
    shifts(operand<A>(i));
  }
}
#define PAIR(a, b) pair<a, b>(#a " " #b)

int main() {
  PAIR(ap_int<1>, ap_uint<1>);
  PAIR(ap_uint<1>, ap_int<5>);
  PAIR(ap_int<8>, ap_int<8>);
  PAIR(ap_uint<8>, ap_int<8>);
  PAIR(ap_int<8>, ap_uint<13>);
  PAIR(ap_uint<16>, ap_uint<16>);
  PAIR(ap_int<33>, ap_int<16>);
  PAIR(ap_int<48>, ap_uint<48>);
  PAIR(ap_uint<63>, ap_int<64>);
  PAIR(ap_uint<64>, ap_uint<64>);
  PAIR(ap_int<65>, ap_uint<31>);
  PAIR(ap_uint<100>, ap_int<100>);
  return 0;
}
