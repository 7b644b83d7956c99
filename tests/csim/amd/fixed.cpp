// SPDX-License-Identifier: Apache-2.0
// What ap_fixed and ap_ufixed make of operands: one line per pair of types and operation, with a hash over
// the formats and bits of all results. Two arguments, a pair and an operation, print those results
// themselves.
//
// cases.inc lists them, as ALONE(a) for one number and with numbers of C++, RANGES(a) for references to its
// bits, PAIR(a, b) for the operators, and CONVERTED(from, signed, width, integer bits) for all modes of
// rounding and overflow: all values of narrow types, corners and random values of wide ones.
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
  const unsigned long long corner = i == 1 ? 1 : i == 2 ? 1ull << (T::width - 1) % 64 : i == 3 ? ~0ull : 0;
  value.range(T::width - 1, 0) = T::width <= 7 ? i : i < 4 ? corner : draw();
  if (T::width > 64 && i > 2) value.range(T::width - 1, T::width / 2) = i == 3 ? ~0ull : draw();
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

template <typename T, typename A>
void native(const char* type, const A& a) {
  static const long long kValues[] = {0, 1, -2, 3, 5, 100, 200, 1000, -1000, 40000, 1ll << 40, ~0ull >> 1};
  const std::string name = type;
  for (long long value : kValues) {
    const T n = (T)value;
    note_fixed((name + " +").c_str(), n + a);
    note_fixed((name + " -").c_str(), n - a);
    note_fixed((name + " *").c_str(), n * a);
    note_fixed((name + " &").c_str(), n & a);
    if (a != 0) note_fixed((name + " /").c_str(), n / a);
    if (n != 0) note_fixed(("/ " + name).c_str(), a / n);
    note((name + " <").c_str(), n < a);
    note((name + " ==").c_str(), n == a);
  }
}

template <typename A>
void natives(const A& a) {
  native<bool>("bool", a);
  native<char>("char", a);
  native<unsigned char>("unsigned char", a);
  native<int>("int", a);
  native<unsigned>("unsigned", a);
  native<long long>("long long", a);
  native<unsigned long>("unsigned long", a);
}

// With fewer than no bits in front of the point, AMD's headers read what they have not set.
template <typename A>
void integers(const A& a) {
  note("to_int", a.to_int());
  note("to_uint", a.to_uint());
  note("to_int64", a.to_int64());
  note("to_uint64", a.to_uint64());
  note("int", (int)a);
  note("unsigned char", (unsigned char)a);
  note("long long", (long long)a);
  ap_int<6> narrow = a;
  note("ap_int", narrow);
  narrow = 1;
  narrow = a;
  note("ap_int =", narrow);
  ap_uint<40> wide = a;
  note("ap_uint", wide);
  ap_uint<9> part = 0;
  part.range(7, 1) = a;
  note("range", part);
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
  if (A::iwidth >= 0) integers(a);
  note("bool", (bool)a);
  note_fixed("from ap_int", A(ap_int<9>(bits_of(a) * 3)));
  note_fixed("from int", A(bits_of(a).to_int() - 5));
}

template <typename T, typename R>
void range_with(const char* type, R r, const T& x) {
  const std::string name = type;
  note(("r + " + name).c_str(), r + x);
  note((name + " - r").c_str(), x - r);
  note(("r * " + name).c_str(), r * x);
  note(("r & " + name).c_str(), r & x);
  note((name + " | r").c_str(), x | r);
  if ((long long)x != 0) note(("r / " + name).c_str(), r / x);
  if ((long long)r != 0) note((name + " % r").c_str(), x % r);
}
template <typename T, typename R>
void range_order(const char* type, R r, T x) {
  const std::string name = type;
  note(("r < " + name).c_str(), r < x);
  note((name + " < r").c_str(), x < r);
  note(("r >= " + name).c_str(), r >= x);
  note((name + " == r").c_str(), x == r);
  note(("r != " + name).c_str(), r != x);
}

template <typename A>
void range_value(A a, int hi, int lo) {
  const A same = a;
  note("r bool", (bool)a.range(hi, lo));
  note("r ull", (unsigned long long)same.range(hi, lo));
  note("r ll", (long long)a(hi, lo));
  note("r char", (char)same(hi, lo));
  note("r to_char", a.range(hi, lo).to_char());
  note("r to_int", a.range(hi, lo).to_int());
  note("r to_uint", a.range(hi, lo).to_uint());
  note("r to_long", a.range(hi, lo).to_long());
  note("r to_int64", a.range(hi, lo).to_int64());
  note("r to_uint64", a.range(hi, lo).to_uint64());
  note("r get", a.range(hi, lo).get());
  note("r length", a.range(hi, lo).length());
  note("r ap_int", ap_int<7>(a.range(hi, lo)));
  note("r ap_uint", ap_uint<90>(a.range(hi, lo)));
  note_fixed("r fixed", ap_fixed<9, 5>(a.range(hi, lo)));
  note("- r", -a.range(hi, lo));
  note("~ r", ~a.range(hi, lo));
  note("! r", !a.range(hi, lo));
  note("r << 3", a.range(hi, lo) << 3);
  note("r >> ap_uint", a.range(hi, lo) >> ap_uint<2>(1));
  range_with("int", a.range(hi, lo), -100);
  range_with("ulong", a.range(hi, lo), 5ul);
  range_with("ap_int", a.range(hi, lo), ap_int<6>(-5));
  range_with("ap_uint", a.range(hi, lo), ap_uint<70>(99));
  range_with("range", a.range(hi, lo), a.range(A::width - 1, A::width / 2));
  range_order("bool", a.range(hi, lo), true);
  range_order("char", a.range(hi, lo), (char)-1);
  range_order("int", a.range(hi, lo), -2);
  range_order("uint", a.range(hi, lo), 7u);
  range_order("ll", a.range(hi, lo), 3ll);
  note("r < range", a.range(hi, lo) < a.range(A::width - 1, A::width / 2));
  note("r == range", a.range(hi, lo) == a.range(A::width - 1, A::width / 2));
  ap_uint<9> number = 300;
  note("r < ap_int range", a.range(hi, lo) < number.range(4, 1));
  note("ap_int range + r", number.range(5, 0) + a.range(hi, lo));
  note_fixed("r + fixed", a.range(hi, lo) + a);
  // AMD's division of more than 64 bits is off by one for (2^64 - 1) * 2^61 / (2^70 - 1).
  if (A::width <= 64 && a != 0) note_fixed("r / fixed", a.range(hi, lo) / a);
  ap_int<12> sum = -77;
  note("+= r", sum += a.range(hi, lo));
  note(">>= bit", sum >>= (int)a[lo]);
  A other = a;
  note_fixed("fixed += r", other += a.range(hi, lo));
  note("(ap_int, r)", ap_uint<A::width + 9>((number, a.range(hi, lo))));
  note("(r, r)", ap_uint<2 * A::width>((a.range(hi, lo), a.range(A::width - 1, lo))));
  note("(r, bit)", ap_uint<A::width + 1>((a.range(hi, lo), a[hi])));
  note("(r, char)", (a.range(hi, lo), (char)-3));
  note("(char, r)", ((char)-3, a.range(hi, lo)));
  number.range(6, 2) = a.range(hi, lo);
  note("ap_int range = r", number);
}

template <typename A>
void range_put(const A& a, int hi, int lo) {
  const A start = A(-1);
  A c = start;
#define PUT(name, x)   \
  c = start;           \
  c.range(hi, lo) = x; \
  note_fixed("r = " name, c)
  ap_int<11> number = -345;
  PUT("int", -5);
  PUT("uchar", (unsigned char)0xa5);
  PUT("ll", 0x123456789abcdefll);
  PUT("bool", false);
  PUT("ap_int", number);
  PUT("wide", (ap_uint<80>(0x5aa5) << 60) + 77);
  PUT("fixed", a);
  PUT("other fixed", (ap_fixed<12, 4>(-2.625)));
  PUT("ap_int range", number.range(7, 2));
  PUT("ap_int bit", number[0]);
  PUT("range", a.range(hi, lo));
  PUT("other range", (ap_ufixed<70, 9>(a).range(64, 60)));
  PUT("bit", A(a)[hi]);
  PUT("concat", (number, number));
  c.range() = a.range();
  note_fixed("r = all", c);
  c.range(hi, lo).set(ap_uint<5>(19));
  note_fixed("r set", c);
  (number, c.range(hi, lo)) = ap_uint<A::width + 11>(ap_uint<A::width + 11>(bits_of(a)) * 37);
  note_fixed("(ap_int, r) =", c);
  note("(ap_int, r) =", number);
}

template <typename A>
void bits(A a, int at) {
  ap_int<6> number = -5;
  note("bit", (bool)a[at]);
  note("~ bit", ~a[at]);
  note("bit get", a[at].get());
  note("bit length", a[at].length());
  note("bit + bit", a[at] + a[0]);
  note("bit + int", a[at] + 3);
  note("bit == 1", a[at] == 1);
  note("bit < -1", a[at] < -1);
  note("bit / ap_int", a[at] / number);
  note("ap_int - bit", number - a[at]);
  note("ap_int & bit", number & a[at]);
  note_fixed("bit * fixed", a[at] * a);
  note("bit ap_int", ap_int<4>(a[at]));
  note_fixed("bit fixed", ap_fixed<5, 3>(a[at]));
  note("(bit, bit)", ap_uint<2>((a[at], a[0])));
#define PUT_BIT(name, x) \
  c = a;                 \
  c[at] = x;             \
  note_fixed("bit = " name, c)
  A c;
  PUT_BIT("2", 2);
  PUT_BIT("0", 0);
  PUT_BIT("ap_int", number);
  PUT_BIT("bit", a[0]);
  PUT_BIT("r", a.range(at, 0));
  PUT_BIT("fixed", a);
  number[2] = a[at];
  note("ap_int bit = bit", number);
  number[3] = a.range(at, 0);
  note("ap_int bit = r", number);
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
    for (int j = 0; j < operands(B::width); ++j) {
      const B b = operand<B>(j);
      name_operands(bits_of(a), bits_of(b));
      operators(a, b);
    }
  }
  print_hashes();
}
template <typename A>
void each_alone(const char* name) {
  current_pair = name;
  for (int i = 0; i < operands(A::width); ++i) {
    const A a = operand<A>(i);
    name_operands(bits_of(a), ap_uint<1>(0));
    alone(a);
    natives(a);
  }
  print_hashes();
}
template <typename A>
void each_range(const char* name) {
  current_pair = name;
  constexpr int kTop = A::width - 1;
  static const int kAt[][2] = {{kTop, 0},        {0, 0},    {kTop, 1}, {kTop / 2, 0},
                               {kTop, kTop / 2}, {0, kTop}, {1, kTop}};
  for (int i = 0; i < operands(A::width); ++i) {
    const A a = operand<A>(i);
    for (const auto& at : kAt) {
      name_operands(bits_of(a), ap_uint<16>(at[0] * 256 + at[1]));
      range_value(a, at[0], at[1]);
      range_put(a, at[0], at[1]);
      bits(a, at[0]);
    }
  }
  print_hashes();
}
#define NAMED(...) #__VA_ARGS__
#define RANGES(a) each_range<a>(NAMED(a))
#define ALONE(a) each_alone<a>(NAMED(a))
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
