// SPDX-License-Identifier: Apache-2.0
// How a word of a stream becomes bits, lowest field first; of an AXI beat, data and then TLAST in the top
// bit, with its side channels apart.
#ifndef E2HLS_HLS_STREAM_FLAT_H
#define E2HLS_HLS_STREAM_FLAT_H

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ap_fixed.h"
#include "ap_int.h"
#include "hls_vector.h"

namespace e2hls {

struct Absent {};  // a side channel that a beat lacks
template <typename T>
constexpr bool is_present = !std::is_same_v<const T, const Absent>;

template <int kWidth>
using BitsOf = unsigned _BitInt(kWidth);

// How a type becomes bits: kWidth, kAxis, pack, unpack.
template <typename T>
struct Flat;

template <int kWidthOf, bool kSigned>
struct Flat<ap_int_base<kWidthOf, kSigned>> {
  static constexpr int kWidth = kWidthOf;
  static constexpr bool kAxis = false;
  E2HLS_INLINE static BitsOf<kWidth> pack(const ap_int_base<kWidth, kSigned>& x) { return x.bits(); }
  E2HLS_INLINE static ap_int_base<kWidth, kSigned> unpack(BitsOf<kWidth> bits) {
    return ap_int_base<kWidth, kSigned>::from(bits);
  }
};

template <int kWidthOf, int kInteger, bool kSigned, ap_q_mode kRounding, ap_o_mode kOverflow, int kSaturated>
struct Flat<ap_fixed_base<kWidthOf, kInteger, kSigned, kRounding, kOverflow, kSaturated>> {
  using Fixed = ap_fixed_base<kWidthOf, kInteger, kSigned, kRounding, kOverflow, kSaturated>;
  static constexpr int kWidth = kWidthOf;
  static constexpr bool kAxis = false;
  E2HLS_INLINE static BitsOf<kWidth> pack(const Fixed& x) { return x.V.bits(); }
  E2HLS_INLINE static Fixed unpack(BitsOf<kWidth> bits) { return Fixed::from(bits); }
};

template <typename T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>)
struct Flat<T> {
  static constexpr int kWidth = std::is_same_v<T, bool> ? 1 : 8 * static_cast<int>(sizeof(T));
  static constexpr bool kAxis = false;
  E2HLS_INLINE static BitsOf<kWidth> pack(T x) { return static_cast<BitsOf<kWidth>>(x); }
  E2HLS_INLINE static T unpack(BitsOf<kWidth> bits) { return static_cast<T>(bits); }
};

// std::complex, whose header need not be there.
template <typename T>
concept Complex = requires(const T& x) {
  typename T::value_type;
  x.real();
  x.imag();
};
template <Complex T>
struct Flat<T> {
  using Each = Flat<typename T::value_type>;
  static constexpr int kWidth = 2 * Each::kWidth;
  static constexpr bool kAxis = false;
  E2HLS_INLINE static BitsOf<kWidth> pack(const T& x) {
    const auto imaginary = static_cast<BitsOf<kWidth>>(Each::pack(x.imag()));
    return static_cast<BitsOf<kWidth>>(imaginary << Each::kWidth) |
           static_cast<BitsOf<kWidth>>(Each::pack(x.real()));
  }
  E2HLS_INLINE static T unpack(BitsOf<kWidth> bits) {
    return T(Each::unpack(static_cast<BitsOf<Each::kWidth>>(bits)),
             Each::unpack(static_cast<BitsOf<Each::kWidth>>(bits >> Each::kWidth)));
  }
};

template <typename T, std::size_t kCount>
struct Flat<hls::vector<T, kCount>> {
  static constexpr int kEach = Flat<T>::kWidth;
  static constexpr int kWidth = kEach * static_cast<int>(kCount);
  static constexpr bool kAxis = false;
  E2HLS_INLINE static BitsOf<kWidth> pack(const hls::vector<T, kCount>& x) {
    BitsOf<kWidth> bits = 0;
    for (int i = 0; i < static_cast<int>(kCount); ++i) {
      #pragma HLS UNROLL
      bits |= static_cast<BitsOf<kWidth>>(Flat<T>::pack(x[i])) << (kEach * i);
    }
    return bits;
  }
  E2HLS_INLINE static hls::vector<T, kCount> unpack(BitsOf<kWidth> bits) {
    hls::vector<T, kCount> x;
    for (int i = 0; i < static_cast<int>(kCount); ++i) {
      #pragma HLS UNROLL
      x[i] = Flat<T>::unpack(static_cast<BitsOf<kEach>>(bits >> (kEach * i)));
    }
    return x;
  }
};

// A beat: its data, and TLAST where it has that.
template <typename T>
concept Beat = requires { T::kDataWidth; };
template <Beat T>
struct Flat<T> {
  using Data = decltype(T::data);
  static constexpr int kData = T::kDataWidth;
  static constexpr bool kAxis = T::kHasLast;
  static constexpr int kWidth = kData + kAxis;
  E2HLS_INLINE static BitsOf<kWidth> pack(const T& x) {
    if constexpr (!kAxis) {
      return Flat<Data>::pack(x.data);
    } else if constexpr (requires { x.data.bits(); }) {
      return static_cast<BitsOf<kWidth>>(x.data.bits()) | static_cast<BitsOf<kWidth>>(x.last.bits()) << kData;
    } else {
      return static_cast<BitsOf<kWidth>>(Flat<Data>::pack(x.data)) |
             static_cast<BitsOf<kWidth>>(x.last.bits()) << kData;
    }
  }
  E2HLS_INLINE static T unpack(BitsOf<kWidth> bits) {
    T x{};
    if constexpr (requires { x.data.bits(); }) {
      x.data = Data::from(static_cast<BitsOf<kData>>(bits));
    } else {
      x.data = Flat<Data>::unpack(static_cast<BitsOf<kData>>(bits));
    }
    if constexpr (is_present<decltype(x.keep)>) x.keep = -1;
    if constexpr (is_present<decltype(x.strb)>) x.strb = -1;
    if constexpr (kAxis) x.last = static_cast<bool>(bits >> kData & 1);
    return x;
  }
};

// The side channels that a beat has, each with its number: keep, strb, user, id, dest.
template <typename T, typename Visit>
E2HLS_INLINE void each_side(T& beat, Visit visit) {
  if constexpr (is_present<decltype(beat.keep)>) visit(beat.keep, std::integral_constant<int, 0>{});
  if constexpr (is_present<decltype(beat.strb)>) visit(beat.strb, std::integral_constant<int, 1>{});
  if constexpr (is_present<decltype(beat.user)>) visit(beat.user, std::integral_constant<int, 2>{});
  if constexpr (is_present<decltype(beat.id)>) visit(beat.id, std::integral_constant<int, 3>{});
  if constexpr (is_present<decltype(beat.dest)>) visit(beat.dest, std::integral_constant<int, 4>{});
}

// An array or a plain struct travels element by element and field by field, whatever its padding.
template <typename T, std::size_t kCount>
struct Flat<T[kCount]> {
  static constexpr int kEach = Flat<T>::kWidth;
  static constexpr int kWidth = kEach * static_cast<int>(kCount);
  static constexpr bool kAxis = false;
  E2HLS_INLINE static BitsOf<kWidth> pack(const T (&x)[kCount]) {
    BitsOf<kWidth> bits = 0;
    for (int i = 0; i < static_cast<int>(kCount); ++i) {
      #pragma HLS UNROLL
      bits |= static_cast<BitsOf<kWidth>>(Flat<T>::pack(x[i])) << (kEach * i);
    }
    return bits;
  }
};

template <typename T>
E2HLS_INLINE void assign(T& x, BitsOf<Flat<T>::kWidth> bits) {
  x = Flat<T>::unpack(bits);
}
template <typename T, std::size_t kCount>
E2HLS_INLINE void assign(T (&x)[kCount], BitsOf<Flat<T[kCount]>::kWidth> bits) {
  constexpr int kEach = Flat<T>::kWidth;
  for (int i = 0; i < static_cast<int>(kCount); ++i) {
    #pragma HLS UNROLL
    assign(x[i], static_cast<BitsOf<kEach>>(bits >> (kEach * i)));
  }
}

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wc++26-extensions"
template <typename T, typename Visit>
E2HLS_INLINE auto with_fields(T& x, Visit visit) {
  auto& [... fields] = x;
  return visit(fields...);
}
#pragma clang diagnostic pop

template <int kWidth>
struct Width {
  static constexpr int value = kWidth;
};
template <typename... Fields>
constexpr Width<(0 + ... + Flat<std::remove_cvref_t<Fields>>::kWidth)> width_of(Fields&...) {
  return {};
}

template <typename T>
concept Struct = std::is_aggregate_v<T> && !std::is_array_v<T> && !Beat<T> &&
                 requires { __builtin_structured_binding_size(T); };

template <Struct T>
struct Flat<T> {
  static constexpr int kWidth = decltype(with_fields(
      *static_cast<T*>(nullptr), [](auto&... fields) { return width_of(fields...); }))::value;
  static constexpr bool kAxis = false;
  using Bits = BitsOf<kWidth>;

  E2HLS_INLINE static Bits pack(const T& x) {
    Bits bits = 0;
    with_fields(x, [&bits](const auto&... fields) __attribute__((always_inline)) {
      int at = 0;
      ((bits |= static_cast<Bits>(Flat<std::remove_cvref_t<decltype(fields)>>::pack(fields)) << at,
        at += Flat<std::remove_cvref_t<decltype(fields)>>::kWidth),
       ...);
      return 0;
    });
    return bits;
  }
  E2HLS_INLINE static T unpack(Bits bits) {
    T x;
    with_fields(x, [bits](auto&... fields) __attribute__((always_inline)) {
      int at = 0;
      ((assign(fields, static_cast<BitsOf<Flat<std::remove_cvref_t<decltype(fields)>>::kWidth>>(bits >> at)),
        at += Flat<std::remove_cvref_t<decltype(fields)>>::kWidth),
       ...);
      return 0;
    });
    return x;
  }
};

// Whether a stream can carry words of this type.
template <typename T>
constexpr bool is_word = requires { sizeof(Flat<T>); };
template <typename T, std::size_t kCount>
constexpr bool is_word<T[kCount]> = is_word<T>;
template <typename T, std::size_t kCount>
constexpr bool is_word<hls::vector<T, kCount>> = is_word<T>;
template <typename... Fields>
constexpr std::bool_constant<(true && ... && is_word<std::remove_cvref_t<Fields>>)> are_words(Fields&...) {
  return {};
}
template <Struct T>
constexpr bool is_word<T> = decltype(with_fields(
    *static_cast<T*>(nullptr), [](auto&... fields) { return are_words(fields...); }))::value;

}  // namespace e2hls

#define E2HLS_REQUIRE_WORD(T)                                                                            \
  static_assert(!std::is_floating_point_v<T>,                                                            \
                "a stream of floating point is not supported; use ap_int with a scale of your own");     \
  static_assert(std::is_floating_point_v<T> || e2hls::is_word<T>,                                        \
                "a word of a stream consists of integers, enums, ap_int, hls::vector, arrays and plain " \
                "structs of these")

#endif  // E2HLS_HLS_STREAM_FLAT_H
