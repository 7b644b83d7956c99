// SPDX-License-Identifier: Apache-2.0
// Arbitrary-precision integers with the vendor's names, widths and wrap-around, built on clang's _BitInt.
//
// A sum, difference or product is as wide as its exact value needs; an assignment keeps the low bits.
// Longer than other files, since a number and the references to its bits are made of each other.
#ifndef E2HLS_AP_INT_H
#define E2HLS_AP_INT_H

#include <type_traits>

#define E2HLS_INLINE [[gnu::always_inline]] constexpr

template <int kWidth, bool kSigned>
struct ap_int_base;
template <int kWidth>
using ap_int = ap_int_base<kWidth, true>;
template <int kWidth>
using ap_uint = ap_int_base<kWidth, false>;

namespace e2hls {

constexpr int max(int a, int b) { return a > b ? a : b; }
constexpr int min(int a, int b) { return a < b ? a : b; }

// A signed _BitInt needs two bits: ap_int<1> is stored as one unsigned bit and computed in two.
template <int kWidth, bool kSigned>
struct Raw {
  using Value = unsigned _BitInt(kWidth);
  using Stored = unsigned _BitInt(kWidth);
};
template <int kWidth>
struct Raw<kWidth, true> {
  using Value = _BitInt(kWidth);
  using Stored = _BitInt(kWidth);
};
template <>
struct Raw<1, true> {
  using Value = _BitInt(2);
  using Stored = unsigned _BitInt(1);
};
template <int kWidth, bool kSigned>
using Value = typename Raw<kWidth, kSigned>::Value;

// What may stand in an expression: its width, its sign and its value.
template <typename T, typename = void>
struct Operand {
  static constexpr bool kValid = false;
  static constexpr bool kVendor = false;
};
template <int kWidthOf, bool kSignedOf>
struct Operand<ap_int_base<kWidthOf, kSignedOf>> {
  static constexpr bool kValid = true;
  static constexpr bool kVendor = true;
  static constexpr int kWidth = kWidthOf;
  static constexpr bool kSigned = kSignedOf;
  E2HLS_INLINE static Value<kWidth, kSigned> value(const ap_int_base<kWidth, kSigned>& x) { return x.get(); }
};
template <typename T>
struct Operand<T, std::enable_if_t<std::is_integral_v<T>>> {
  static constexpr bool kValid = true;
  static constexpr bool kVendor = false;
  static constexpr int kWidth = std::is_same_v<T, bool> ? 1 : 8 * static_cast<int>(sizeof(T));
  static constexpr bool kSigned = std::is_signed_v<T>;
  E2HLS_INLINE static Value<kWidth, kSigned> value(T x) { return static_cast<Value<kWidth, kSigned>>(x); }
};

template <typename A, typename B>
concept Pair = Operand<A>::kValid && Operand<B>::kValid && (Operand<A>::kVendor || Operand<B>::kVendor);
template <typename A>
concept Any = Operand<A>::kValid;
template <typename A>
concept Vendor = Operand<A>::kVendor;

// Widths of results, as the vendor states them.
template <typename A, typename B>
struct Result {
  static constexpr int kA = Operand<A>::kWidth;
  static constexpr int kB = Operand<B>::kWidth;
  static constexpr bool kSa = Operand<A>::kSigned;
  static constexpr bool kSb = Operand<B>::kSigned;
  static constexpr bool kSigned = kSa || kSb;
  static constexpr int kLogic = max(kA + (kSb && !kSa), kB + (kSa && !kSb));
  using Sum = ap_int_base<kLogic + 1, kSigned>;
  using Difference = ap_int_base<kLogic + 1, true>;
  using Product = ap_int_base<kA + kB, kSigned>;
  using Quotient = ap_int_base<kA + kSb, kSigned>;
  using Remainder = ap_int_base<min(kA, kB + (!kSb && kSa)), kSa>;
  using Logic = ap_int_base<kLogic, kSigned>;
  using Common = Value<kLogic + 1, kSigned>;  // holds both operands
  // As in C, an order is unsigned where the unsigned operand is at least as wide as the signed one, from 32
  // bits on.
  static constexpr bool kUnsignedWins = kSa != kSb && (kSa ? kB >= kA : kA >= kB) && (kA >= 32 || kB >= 32);
  using Ordered = std::conditional_t<kUnsignedWins, Value<kLogic + 1, false>, Common>;
};

template <typename To, typename T>
E2HLS_INLINE To cast(const T& x) {
  return static_cast<To>(Operand<T>::value(x));
}

// Shifts by the width or more shift everything out; a negative amount shifts the other way.
template <int kWidth, bool kSigned>
E2HLS_INLINE Value<kWidth, kSigned> up(Value<kWidth, kSigned> x, unsigned by, bool fits) {
  using Bits = unsigned _BitInt(kWidth < 2 ? 2 : kWidth);
  return fits || by < kWidth ? static_cast<Value<kWidth, kSigned>>(static_cast<Bits>(x) << by) : 0;
}
template <int kWidth, bool kSigned>
E2HLS_INLINE Value<kWidth, kSigned> down(Value<kWidth, kSigned> x, unsigned by, bool fits) {
  if (fits || by < kWidth) return x >> by;
  return kSigned && x < 0 ? static_cast<Value<kWidth, kSigned>>(-1) : 0;
}

template <bool kLeft, int kWidth, bool kSigned, typename Amount>
E2HLS_INLINE Value<kWidth, kSigned> shift(Value<kWidth, kSigned> x, const Amount& amount) {
  using Of = Operand<Amount>;
  constexpr bool kFits = Of::kWidth < 31 && (1LL << (Of::kWidth < 31 ? Of::kWidth : 0)) <= kWidth;
  const auto by = Of::value(amount);
  if constexpr (Of::kSigned) {
    using Wide = _BitInt(Of::kWidth + 1);
    const bool left = kLeft == (by >= 0);
    const Wide size = by < 0 ? static_cast<Wide>(-static_cast<Wide>(by)) : static_cast<Wide>(by);
    const unsigned bounded = size > kWidth ? kWidth : static_cast<unsigned>(size);
    return left ? up<kWidth, kSigned>(x, bounded, kFits) : down<kWidth, kSigned>(x, bounded, kFits);
  } else {
    const unsigned bounded = kFits || by <= kWidth ? static_cast<unsigned>(by) : kWidth;
    return kLeft ? up<kWidth, kSigned>(x, bounded, kFits) : down<kWidth, kSigned>(x, bounded, kFits);
  }
}

}  // namespace e2hls

// Bits hi..lo of a number, to read or to write; as wide as the number, since hi and lo may be variables.
// Three words large, so that a function returns it in memory: in registers its reference would become a
// number.
template <int kWidth, bool kSigned>
struct ap_range_ref {
  ap_int_base<kWidth, kSigned>& number;
  long hi;
  long lo;

  E2HLS_INLINE ap_range_ref(ap_int_base<kWidth, kSigned>& of, int high, int low)
      : number(of), hi(high), lo(low) {}
  ap_range_ref(const ap_range_ref&) = default;

  E2HLS_INLINE unsigned _BitInt(kWidth) mask() const {
    return static_cast<unsigned _BitInt(kWidth)>(~static_cast<unsigned _BitInt(kWidth)>(0)) >>
           (kWidth - 1 - hi + lo);
  }
  E2HLS_INLINE ap_uint<kWidth> get() const { return ap_uint<kWidth>::from(number.bits() >> lo & mask()); }
  E2HLS_INLINE operator ap_uint<kWidth>() const { return get(); }
  E2HLS_INLINE operator unsigned long long() const { return get().to_uint64(); }
  E2HLS_INLINE int to_int() const { return get().to_int(); }
  E2HLS_INLINE unsigned to_uint() const { return get().to_uint(); }
  E2HLS_INLINE long long to_int64() const { return get().to_int64(); }
  E2HLS_INLINE unsigned long long to_uint64() const { return get().to_uint64(); }
  E2HLS_INLINE int length() const { return static_cast<int>(hi - lo + 1); }

  template <e2hls::Any T>
  E2HLS_INLINE const ap_range_ref& operator=(const T& x) const {
    using Bits = unsigned _BitInt(kWidth);
    const Bits field = static_cast<Bits>(mask() << lo);
    const Bits fresh = static_cast<Bits>(e2hls::cast<Bits>(x) << lo) & field;
    number = ap_uint<kWidth>::from(static_cast<Bits>((number.bits() & static_cast<Bits>(~field)) | fresh));
    return *this;
  }
  E2HLS_INLINE const ap_range_ref& operator=(const ap_range_ref& x) const { return *this = x.get(); }
};

// One bit of a number, to read or to write; three words large for the same reason.
template <int kWidth, bool kSigned>
struct ap_bit_ref {
  ap_int_base<kWidth, kSigned>& number;
  int index;
  long last = kWidth - 1;

  E2HLS_INLINE ap_bit_ref(ap_int_base<kWidth, kSigned>& of, int at) : number(of), index(at) {}
  ap_bit_ref(const ap_bit_ref&) = default;

  E2HLS_INLINE operator bool() const { return number.get_bit(index); }
  E2HLS_INLINE bool to_bool() const { return number.get_bit(index); }
  E2HLS_INLINE bool operator~() const { return !number.get_bit(index); }
  template <typename T>
  E2HLS_INLINE const ap_bit_ref& operator=(const T& x) const {
    number.set_bit(index, x != 0);
    return *this;
  }
  E2HLS_INLINE const ap_bit_ref& operator=(const ap_bit_ref& x) const { return *this = x.to_bool(); }
};

namespace e2hls {
template <int kWidthOf, bool kSignedOf>
struct Operand<ap_range_ref<kWidthOf, kSignedOf>> {
  static constexpr bool kValid = true;
  static constexpr bool kVendor = true;
  static constexpr int kWidth = kWidthOf;
  static constexpr bool kSigned = false;
  E2HLS_INLINE static Value<kWidth, false> value(const ap_range_ref<kWidth, kSignedOf>& x) {
    return x.get().get();
  }
};
template <int kWidthOf, bool kSignedOf>
struct Operand<ap_bit_ref<kWidthOf, kSignedOf>> {
  static constexpr bool kValid = true;
  static constexpr bool kVendor = true;
  static constexpr int kWidth = 1;
  static constexpr bool kSigned = false;
  E2HLS_INLINE static Value<1, false> value(const ap_bit_ref<kWidthOf, kSignedOf>& x) {
    return static_cast<Value<1, false>>(x.to_bool());
  }
};
}  // namespace e2hls

template <int kWidth, bool kSigned>
struct ap_int_base {
  static_assert(kWidth > 0, "ap_int: the width must be positive");
  static constexpr int width = kWidth;
  using Value = e2hls::Value<kWidth, kSigned>;
  using Bits = unsigned _BitInt(kWidth);
  using Native = std::conditional_t<kSigned, long long, unsigned long long>;

  typename e2hls::Raw<kWidth, kSigned>::Stored V;

  ap_int_base() = default;
  template <e2hls::Any T>
  E2HLS_INLINE ap_int_base(const T& x) : V(e2hls::cast<decltype(V)>(x)) {}

  E2HLS_INLINE static ap_int_base from(Bits bits) {
    ap_int_base x;
    x.V = static_cast<decltype(x.V)>(bits);
    return x;
  }
  E2HLS_INLINE Value get() const {
    if constexpr (kSigned && kWidth == 1) {
      return static_cast<Value>(-static_cast<Value>(V));
    } else {
      return V;
    }
  }
  E2HLS_INLINE Bits bits() const { return static_cast<Bits>(V); }
  E2HLS_INLINE operator Native() const { return static_cast<Native>(get()); }

  E2HLS_INLINE bool to_bool() const { return bits() != 0; }
  E2HLS_INLINE char to_char() const { return static_cast<char>(get()); }
  E2HLS_INLINE short to_short() const { return static_cast<short>(get()); }
  E2HLS_INLINE int to_int() const { return static_cast<int>(get()); }
  E2HLS_INLINE unsigned to_uint() const { return static_cast<unsigned>(get()); }
  E2HLS_INLINE long to_long() const { return static_cast<long>(get()); }
  E2HLS_INLINE unsigned long to_ulong() const { return static_cast<unsigned long>(get()); }
  E2HLS_INLINE long long to_int64() const { return static_cast<long long>(get()); }
  E2HLS_INLINE unsigned long long to_uint64() const { return static_cast<unsigned long long>(get()); }
  E2HLS_INLINE int length() const { return kWidth; }

  E2HLS_INLINE bool is_zero() const { return bits() == 0; }
  E2HLS_INLINE bool iszero() const { return bits() == 0; }
  E2HLS_INLINE bool sign() const { return kSigned && get_bit(kWidth - 1); }
  E2HLS_INLINE bool get_bit(int index) const { return (bits() >> index & 1) != 0; }
  E2HLS_INLINE bool test(int index) const { return get_bit(index); }
  E2HLS_INLINE void set_bit(int index, bool on) {
    const Bits one = static_cast<Bits>(static_cast<Bits>(1) << index);
    V = static_cast<decltype(V)>(on ? bits() | one : bits() & static_cast<Bits>(~one));
  }
  E2HLS_INLINE void set(int index) { set_bit(index, true); }
  E2HLS_INLINE void clear(int index) { set_bit(index, false); }
  E2HLS_INLINE void invert(int index) { set_bit(index, !get_bit(index)); }
  E2HLS_INLINE void b_not() { V = static_cast<decltype(V)>(~bits()); }
  E2HLS_INLINE bool and_reduce() const { return bits() == static_cast<Bits>(~static_cast<Bits>(0)); }
  E2HLS_INLINE bool or_reduce() const { return bits() != 0; }
  E2HLS_INLINE bool nand_reduce() const { return !and_reduce(); }
  E2HLS_INLINE bool nor_reduce() const { return !or_reduce(); }
  E2HLS_INLINE bool xor_reduce() const {
    Bits x = bits();
    for (int by = 1; by < kWidth; by *= 2) {
      #pragma HLS UNROLL
      x ^= x >> by;
    }
    return (x & 1) != 0;
  }
  E2HLS_INLINE bool xnor_reduce() const { return !xor_reduce(); }

  E2HLS_INLINE ap_range_ref<kWidth, kSigned> range(int hi, int lo) { return {*this, hi, lo}; }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> range(int hi, int lo) const {
    return {const_cast<ap_int_base&>(*this), hi, lo};
  }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> range() { return range(kWidth - 1, 0); }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> range() const { return range(kWidth - 1, 0); }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> operator()(int hi, int lo) { return range(hi, lo); }
  E2HLS_INLINE ap_range_ref<kWidth, kSigned> operator()(int hi, int lo) const { return range(hi, lo); }
  // Templates, so that an index is never ambiguous with the built-in [] on the converted number.
  template <e2hls::Any T>
  E2HLS_INLINE ap_bit_ref<kWidth, kSigned> operator[](const T& index) {
    return {*this, e2hls::cast<int>(index)};
  }
  template <e2hls::Any T>
  E2HLS_INLINE bool operator[](const T& index) const {
    return get_bit(e2hls::cast<int>(index));
  }
  template <e2hls::Any T>
  E2HLS_INLINE ap_bit_ref<kWidth, kSigned> bit(const T& index) {
    return {*this, e2hls::cast<int>(index)};
  }
  template <e2hls::Any T>
  E2HLS_INLINE bool bit(const T& index) const {
    return get_bit(e2hls::cast<int>(index));
  }
  template <e2hls::Vendor T>
  E2HLS_INLINE ap_uint<kWidth + e2hls::Operand<T>::kWidth> concat(const T& low) const {
    constexpr int kLow = e2hls::Operand<T>::kWidth;
    using Whole = unsigned _BitInt(kWidth + kLow);
    const auto tail = static_cast<unsigned _BitInt(kLow)>(e2hls::Operand<T>::value(low));
    return ap_uint<kWidth + kLow>::from(static_cast<Whole>(static_cast<Whole>(bits()) << kLow) |
                                        static_cast<Whole>(tail));
  }

  E2HLS_INLINE ap_int_base operator+() const { return *this; }
  E2HLS_INLINE ap_int<e2hls::max(kWidth, kSigned ? 2 : 1) + 1> operator-() const {
    using Wide = ap_int<e2hls::max(kWidth, kSigned ? 2 : 1) + 1>;
    return Wide::from(static_cast<typename Wide::Bits>(-static_cast<typename Wide::Value>(get())));
  }
  E2HLS_INLINE ap_int_base operator~() const { return from(static_cast<Bits>(~bits())); }
  E2HLS_INLINE bool operator!() const { return bits() == 0; }
  E2HLS_INLINE ap_int_base& operator++() { return *this += true; }
  E2HLS_INLINE ap_int_base& operator--() { return *this -= true; }
  E2HLS_INLINE ap_int_base operator++(int) {
    const ap_int_base old = *this;
    *this += true;
    return old;
  }
  E2HLS_INLINE ap_int_base operator--(int) {
    const ap_int_base old = *this;
    *this -= true;
    return old;
  }

#define E2HLS_ASSIGN(sign)                                   \
  template <e2hls::Any T>                                    \
  E2HLS_INLINE ap_int_base& operator sign## = (const T& x) { \
    return *this = ap_int_base(*this sign x);                \
  }
  E2HLS_ASSIGN(+)
  E2HLS_ASSIGN(-)
  E2HLS_ASSIGN(*)
  E2HLS_ASSIGN(/)
  E2HLS_ASSIGN(%)
  E2HLS_ASSIGN(&)
  E2HLS_ASSIGN(|)
  E2HLS_ASSIGN(^)
  E2HLS_ASSIGN(<<)
  E2HLS_ASSIGN(>>)
#undef E2HLS_ASSIGN
};

#define E2HLS_ARITHMETIC(sign, kind)                                                                 \
  template <typename A, typename B>                                                                  \
    requires e2hls::Pair<A, B>                                                                       \
  E2HLS_INLINE typename e2hls::Result<A, B>::kind operator sign(const A& a, const B& b) {            \
    using To = typename e2hls::Result<A, B>::kind;                                                   \
    using Wide = typename To::Value;                                                                 \
    return To::from(static_cast<typename To::Bits>(e2hls::cast<Wide>(a) sign e2hls::cast<Wide>(b))); \
  }
E2HLS_ARITHMETIC(+, Sum)
E2HLS_ARITHMETIC(-, Difference)
E2HLS_ARITHMETIC(*, Product)
E2HLS_ARITHMETIC(&, Logic)
E2HLS_ARITHMETIC(|, Logic)
E2HLS_ARITHMETIC(^, Logic)
#undef E2HLS_ARITHMETIC

#define E2HLS_DIVISION(sign, kind)                                                                   \
  template <typename A, typename B>                                                                  \
    requires e2hls::Pair<A, B>                                                                       \
  E2HLS_INLINE typename e2hls::Result<A, B>::kind operator sign(const A& a, const B& b) {            \
    using To = typename e2hls::Result<A, B>::kind;                                                   \
    using Wide = typename e2hls::Result<A, B>::Common;                                               \
    return To::from(static_cast<typename To::Bits>(e2hls::cast<Wide>(a) sign e2hls::cast<Wide>(b))); \
  }
E2HLS_DIVISION(/, Quotient)
E2HLS_DIVISION(%, Remainder)
#undef E2HLS_DIVISION

#define E2HLS_COMPARISON(sign, kind)                        \
  template <typename A, typename B>                         \
    requires e2hls::Pair<A, B>                              \
  E2HLS_INLINE bool operator sign(const A& a, const B& b) { \
    using Wide = typename e2hls::Result<A, B>::kind;        \
    return e2hls::cast<Wide>(a) sign e2hls::cast<Wide>(b);  \
  }
E2HLS_COMPARISON(==, Common)
E2HLS_COMPARISON(!=, Common)
E2HLS_COMPARISON(<, Ordered)
E2HLS_COMPARISON(<=, Ordered)
E2HLS_COMPARISON(>, Ordered)
E2HLS_COMPARISON(>=, Ordered)
#undef E2HLS_COMPARISON

#define E2HLS_SHIFT(sign, left)                                                                        \
  template <e2hls::Vendor A, e2hls::Any B>                                                             \
  E2HLS_INLINE ap_int_base<e2hls::Operand<A>::kWidth, e2hls::Operand<A>::kSigned> operator sign(       \
      const A& a, const B& b) {                                                                        \
    using To = ap_int_base<e2hls::Operand<A>::kWidth, e2hls::Operand<A>::kSigned>;                     \
    using Of = e2hls::Operand<A>;                                                                      \
    return To::from(                                                                                   \
        static_cast<typename To::Bits>(e2hls::shift<left, Of::kWidth, Of::kSigned>(Of::value(a), b))); \
  }
E2HLS_SHIFT(<<, true)
E2HLS_SHIFT(>>, false)
#undef E2HLS_SHIFT

// (high, low): the bits of both, one after the other.
template <int kHigh, bool kSignedHigh, int kLow, bool kSignedLow>
E2HLS_INLINE ap_uint<kHigh + kLow> operator,(const ap_int_base<kHigh, kSignedHigh>& high,
                                             const ap_int_base<kLow, kSignedLow>& low) {
  return high.concat(low);
}

#endif  // E2HLS_AP_INT_H
