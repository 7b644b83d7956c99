// SPDX-License-Identifier: Apache-2.0
// How a word of a stream becomes bits, lowest field first; of an AXI beat, data and then TLAST in the top
// bit.
#ifndef E2HLS_HLS_STREAM_FLAT_H
#define E2HLS_HLS_STREAM_FLAT_H

#include <cstddef>
#include <type_traits>

#include "ap_axi_sdata.h"
#include "ap_int.h"
#include "hls_vector.h"

namespace e2hls {

template <int kWidth>
using BitsOf = unsigned _BitInt(kWidth);

// How a type becomes bits: kWidth, kAxis, pack, unpack.
template <typename T, typename = void>
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

template <typename T>
struct Flat<T, std::enable_if_t<std::is_integral_v<T> || std::is_enum_v<T>>> {
  static constexpr int kWidth = std::is_same_v<T, bool> ? 1 : 8 * static_cast<int>(sizeof(T));
  static constexpr bool kAxis = false;
  E2HLS_INLINE static BitsOf<kWidth> pack(T x) { return static_cast<BitsOf<kWidth>>(x); }
  E2HLS_INLINE static T unpack(BitsOf<kWidth> bits) { return static_cast<T>(bits); }
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

template <typename T>
struct Flat<T, std::void_t<decltype(T::kDataWidth)>> {
  static constexpr int kData = T::kDataWidth;
  static constexpr int kWidth = kData + 1;
  static constexpr bool kAxis = true;
  E2HLS_INLINE static BitsOf<kWidth> pack(const T& x) {
    return static_cast<BitsOf<kWidth>>(x.data.bits()) | static_cast<BitsOf<kWidth>>(x.last.bits()) << kData;
  }
  E2HLS_INLINE static T unpack(BitsOf<kWidth> bits) {
    T x{};
    x.data = decltype(x.data)::from(static_cast<BitsOf<kData>>(bits));
    x.keep = -1;
    x.strb = -1;
    x.last = static_cast<bool>(bits >> kData & 1);
    return x;
  }
};

// A plain struct travels field by field, whatever its padding.
struct Anything {
  template <typename T>
  operator T() const;
};
template <typename T, typename... Fields>
constexpr int count_fields(Fields... fields) {
  if constexpr (requires { T{fields..., Anything{}}; }) {
    return count_fields<T>(fields..., Anything{});
  } else {
    return sizeof...(fields);
  }
}

template <typename T, typename Visit>
E2HLS_INLINE auto with_fields(T& x, Visit visit) {
  constexpr int kFields = count_fields<std::remove_const_t<T>>();
  static_assert(kFields >= 1 && kFields <= 8, "hls::stream: a struct must have 1 to 8 plain fields");
  if constexpr (kFields == 1) {
    auto& [a] = x;
    return visit(a);
  } else if constexpr (kFields == 2) {
    auto& [a, b] = x;
    return visit(a, b);
  } else if constexpr (kFields == 3) {
    auto& [a, b, c] = x;
    return visit(a, b, c);
  } else if constexpr (kFields == 4) {
    auto& [a, b, c, d] = x;
    return visit(a, b, c, d);
  } else if constexpr (kFields == 5) {
    auto& [a, b, c, d, e] = x;
    return visit(a, b, c, d, e);
  } else if constexpr (kFields == 6) {
    auto& [a, b, c, d, e, f] = x;
    return visit(a, b, c, d, e, f);
  } else if constexpr (kFields == 7) {
    auto& [a, b, c, d, e, f, g] = x;
    return visit(a, b, c, d, e, f, g);
  } else {
    auto& [a, b, c, d, e, f, g, h] = x;
    return visit(a, b, c, d, e, f, g, h);
  }
}

template <int kWidth>
struct Width {
  static constexpr int value = kWidth;
};
template <typename... Fields>
constexpr Width<(0 + ... + Flat<std::remove_cvref_t<Fields>>::kWidth)> width_of(Fields&...) {
  return {};
}

template <typename T>
    struct Flat < T,
    std::enable_if_t < std::is_aggregate_v<T> && !requires {
  T::kDataWidth;
} >> {
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
      ((fields = Flat<std::remove_cvref_t<decltype(fields)>>::unpack(
            static_cast<BitsOf<Flat<std::remove_cvref_t<decltype(fields)>>::kWidth>>(bits >> at)),
        at += Flat<std::remove_cvref_t<decltype(fields)>>::kWidth),
       ...);
      return 0;
    });
    return x;
  }
};

}  // namespace e2hls

#endif  // E2HLS_HLS_STREAM_FLAT_H
