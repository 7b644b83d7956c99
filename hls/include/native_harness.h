// SPDX-License-Identifier: Apache-2.0
// A kernel's streams behind a C interface, for a native build.
//
// The generated main file includes the kernel and this header, and ends with E2HLS_NATIVE(name of the top
// function). A word is handed over as 64-bit limbs, lowest first, and a byte for TLAST.
#ifndef E2HLS_NATIVE_HARNESS_H
#define E2HLS_NATIVE_HARNESS_H

#include <array>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <tuple>
#include <utility>

#include "hls_stream_flat.h"
#include "hls_stream_native.h"
#include "native_error.h"

extern "C" {
extern const char __ehdr_start __attribute__((visibility("hidden")));  // where the library lies; the linker's
void __ubsan_handle_divrem_overflow(void* place, void* dividend, void* divisor);
[[noreturn]] void __ubsan_handle_out_of_bounds_abort(void* access, void* index);
[[noreturn]] void __ubsan_handle_local_out_of_bounds_abort();
[[noreturn]] void __ubsan_handle_shift_out_of_bounds_abort(void* shift, void* value, void* by);
}

namespace e2hls {

// Where a run ends after what the compiler's checks found: they are called from code that takes no exception.
struct Escape {
  std::jmp_buf target;
  std::string error;
  const void* place;
};
inline thread_local Escape* escape = nullptr;

[[noreturn]] inline void escape_with(const std::string& error, const void* place) {
  if (escape == nullptr) std::abort();  // no run is under way
  escape->error = error;
  escape->place = place;
  std::longjmp(escape->target, 1);
}

// What the compiler hands to its check of an array's index: types are described by kind, size and name.
struct CheckedType {
  std::uint16_t kind;
  std::uint16_t size;  // of an integer: twice the logarithm of its bits, and whether it is signed
  char name[1];
};
struct ArrayAccess {
  const char* file;
  std::uint32_t line;
  std::uint32_t column;
  const CheckedType* array;
  const CheckedType* index;
};

struct Shift {
  const char* file;
  std::uint32_t line;
  std::uint32_t column;
  const CheckedType* value;
  const CheckedType* by;
};

// A number, in a pointer's bits or, where it has more, where that points; its highest bits may be missing.
inline std::string checked_number(const CheckedType& type, const void* number) {
  const int bits = 1 << (type.size >> 1);
  if (bits > 64) number = *static_cast<void* const*>(number);
  const int unused = bits < 64 ? 64 - bits : 0;
  const auto value = reinterpret_cast<std::uint64_t>(number) << unused;
  if ((type.size & 1) == 0) return std::to_string(value >> unused);
  return std::to_string(static_cast<std::int64_t>(value) >> unused);
}

constexpr int limbs_of(int width) { return (width + 63) / 64; }

template <typename T>
struct Port {
  using Kind = Flat<T>;
  static constexpr int kDataWidth = Kind::kWidth - (Kind::kAxis ? 1 : 0);
  static constexpr int kLimbs = limbs_of(kDataWidth);
  using Wide = BitsOf<64 * kLimbs + 64>;  // room for TLAST above whole limbs

  // Bits of a side channel of its words, 0 where they lack it.
  static int side_width(int side) {
    int width = 0;
    if constexpr (Kind::kAxis) {
      T word{};
      each_side(word, [&width, side](auto& each, auto at) {
        if (decltype(at)::value == side) width = each.width;
      });
    }
    return width;
  }

  // `sides` points at the next limbs of each side channel, or nowhere; what is read is passed over.
  static void push(hls::stream<T>& stream, const std::uint64_t* limbs, bool last,
                   const std::uint64_t** sides) {
    Wide bits = 0;
    for (int i = 0; i < kLimbs; ++i) bits |= static_cast<Wide>(limbs[i]) << (64 * i);
    bits &= (static_cast<Wide>(1) << kDataWidth) - 1;
    if (Kind::kAxis) bits |= static_cast<Wide>(last) << kDataWidth;
    T word = Kind::unpack(static_cast<BitsOf<Kind::kWidth>>(bits));
    if constexpr (Kind::kAxis) {
      each_side(word, [&sides](auto& side, auto at) {
        constexpr int kSide = std::remove_reference_t<decltype(side)>::width;
        using Raw = ap_uint<64 * limbs_of(kSide)>;
        const std::uint64_t*& from = sides[decltype(at)::value];
        if (from == nullptr) return;
        Raw raw = 0;
        for (int i = 0; i < limbs_of(kSide); ++i) raw |= Raw(*from++) << (64 * i);
        side = raw;
      });
    }
    stream.write(word);
  }
  static void pop(hls::stream<T>& stream, std::uint64_t* limbs, std::uint8_t* last, std::uint64_t** sides) {
    const T word = stream.read();
    if constexpr (Kind::kAxis) {
      each_side(word, [&sides](const auto& side, auto at) {
        constexpr int kSide = std::remove_reference_t<decltype(side)>::width;
        std::uint64_t*& to = sides[decltype(at)::value];
        for (int i = 0; i < limbs_of(kSide); ++i) *to++ = (side >> (64 * i)).to_uint64();
      });
    }
    const Wide bits = Kind::pack(word);
    const Wide data = bits & ((static_cast<Wide>(1) << kDataWidth) - 1);
    for (int i = 0; i < kLimbs; ++i) limbs[i] = static_cast<std::uint64_t>(data >> (64 * i));
    *last = Kind::kAxis && (bits >> kDataWidth & 1) != 0;
  }
};

// One instance of a kernel: its streams, and the last error.
template <typename... T>
class Instance {
 public:
  explicit Instance(void (*top)(hls::stream<T>&...)) : top_(top) {}

  static constexpr int kPorts = sizeof...(T);
  static constexpr std::array<int, kPorts> kLimbs = {Port<T>::kLimbs...};
  static constexpr std::array<int, kPorts> kWidths = {Port<T>::kDataWidth...};

  static int side_width(int port, int side) {
    static constexpr std::array<int (*)(int), kPorts> kWidthOf = {Port<T>::side_width...};
    return kWidthOf[static_cast<std::size_t>(port)](side);
  }

  void push(int port, const std::uint64_t* data, const std::uint8_t* last, const std::uint64_t** sides,
            std::size_t count) {
    visit(port, [=](auto& stream, auto kind) {
      for (std::size_t i = 0; i < count; ++i) kind.push(stream, data + i * kind.kLimbs, last[i] != 0, sides);
    });
  }
  void pop(int port, std::uint64_t* data, std::uint8_t* last, std::uint64_t** sides) {
    visit(port, [=](auto& stream, auto kind) {
      for (std::size_t i = 0; !stream.empty(); ++i) kind.pop(stream, data + i * kind.kLimbs, last + i, sides);
    });
  }
  std::size_t size(int port) {
    std::size_t count = 0;
    visit(port, [&count](auto& stream, auto) { count = stream.size(); });
    return count;
  }

  // Call the top function until all of `inputs` (a bit per port) are used up. False on an error.
  bool run(std::uint64_t inputs) {
    return guarded([this, inputs] { return use_up(inputs); });
  }
  // Call it once. False on an error.
  bool call_once() {
    return guarded([this] {
      call(std::index_sequence_for<T...>{});
      return true;
    });
  }
  const char* error() const { return error_.c_str(); }
  // Where in the library the error is; 0 where that is not known.
  std::size_t place() const {
    return place_ == nullptr ? 0 : static_cast<std::size_t>(static_cast<const char*>(place_) - &__ehdr_start);
  }

 private:
  template <typename Act>
  bool guarded(Act act) {
    Escape here;
    escape = &here;
    if (setjmp(here.target) == 0) return caught(act);
    error_ = here.error;
    place_ = here.place;
    return false;
  }
  template <typename Act>
  bool caught(Act act) {
    try {
      return act();
    } catch (const hls::stream_underflow& underflow) {
      error_ = "read from an empty stream";
      if (*underflow.what() != 0) error_ += std::string(" ") + underflow.what();
    } catch (const RunError& failed) {
      error_ = failed.what();
      place_ = failed.place;
    } catch (const std::exception& other) {
      error_ = other.what();
    }
    return false;
  }
  bool use_up(std::uint64_t inputs) {
    for (std::size_t left = waiting(inputs); left > 0;) {
      call(std::index_sequence_for<T...>{});
      const std::size_t now = waiting(inputs);
      if (now == left) {
        error_ = "a call of the top function took no word from any input";
        return false;
      }
      left = now;
    }
    return true;
  }
  template <typename Do>
  void visit(int port, Do act) {
    int at = 0;
    std::apply([&](auto&... streams) { ((at++ == port ? act(streams, kind_of(streams)) : void()), ...); },
               streams_);
  }
  template <typename U>
  static Port<U> kind_of(hls::stream<U>&) {
    return {};
  }
  std::size_t waiting(std::uint64_t inputs) {
    std::size_t count = 0;
    for (int port = 0; port < kPorts; ++port) count += inputs >> port & 1 ? size(port) : 0;
    return count;
  }
  template <std::size_t... kAt>
  void call(std::index_sequence<kAt...>) {
    top_(std::get<kAt>(streams_)...);
  }

  void (*top_)(hls::stream<T>&...);
  std::tuple<hls::stream<T>...> streams_;
  std::string error_;
  const void* place_ = nullptr;
};

}  // namespace e2hls

// Called by what -fsanitize=integer-divide-by-zero puts in front of each division, of ap_int's, too.
[[gnu::noinline, gnu::cold]] void __ubsan_handle_divrem_overflow(void*, void*, void*) {
  e2hls::escape_with("division by 0; test the divisor first", __builtin_return_address(0));
}
// And by what -fsanitize=array-bounds puts in front of each access to an array whose size is known.
[[noreturn, gnu::noinline, gnu::cold]] void __ubsan_handle_out_of_bounds_abort(void* place, void* index) {
  const auto& access = *static_cast<const e2hls::ArrayAccess*>(place);
  const std::string type = access.array->name;  // quoted; another quoted one follows where that has two names
  e2hls::escape_with("element " + e2hls::checked_number(*access.index, index) + " of an array of type " +
                         type.substr(1, type.find('\'', 1) - 1) + " is accessed",
                     __builtin_return_address(0));
}

// And by what -fsanitize=local-bounds puts in front of accesses through a pointer into a known variable.
[[noreturn, gnu::noinline, gnu::cold]] void __ubsan_handle_local_out_of_bounds_abort() {
  e2hls::escape_with("an element outside of its array is accessed", __builtin_return_address(0));
}
// And by what -fsanitize=shift-exponent puts in front of each shift of a number of C++.
[[noreturn, gnu::noinline, gnu::cold]] void __ubsan_handle_shift_out_of_bounds_abort(void* place, void*,
                                                                                     void* by) {
  const auto& shift = *static_cast<const e2hls::Shift*>(place);
  const std::string type = shift.value->name;
  e2hls::escape_with("a number of type " + type.substr(1, type.find('\'', 1) - 1) + " is shifted by " +
                         e2hls::checked_number(*shift.by, by) + "; shift by 0 to " +
                         std::to_string((1 << (shift.value->size >> 1)) - 1) + ", or shift an ap_int",
                     __builtin_return_address(0));
}

#define E2HLS_NATIVE(top)                                                                                \
  using E2hlsInstance = decltype(e2hls::Instance(&top));                                                 \
  extern "C" {                                                                                           \
  int e2hls_limbs(int port) { return E2hlsInstance::kLimbs[static_cast<std::size_t>(port)]; }            \
  int e2hls_width(int port) { return E2hlsInstance::kWidths[static_cast<std::size_t>(port)]; }           \
  int e2hls_ports() { return E2hlsInstance::kPorts; }                                                    \
  void* e2hls_new() { return new E2hlsInstance(&top); }                                                  \
  void e2hls_delete(void* self) { delete static_cast<E2hlsInstance*>(self); }                            \
  int e2hls_side(int port, int side) { return E2hlsInstance::side_width(port, side); }                   \
  void e2hls_push(void* self, int port, const std::uint64_t* data, const std::uint8_t* last,             \
                  const std::uint64_t** sides, std::size_t n) {                                          \
    static_cast<E2hlsInstance*>(self)->push(port, data, last, sides, n);                                 \
  }                                                                                                      \
  int e2hls_run(void* self, std::uint64_t inputs) {                                                      \
    return static_cast<E2hlsInstance*>(self)->run(inputs) ? 0 : 1;                                       \
  }                                                                                                      \
  int e2hls_call(void* self) { return static_cast<E2hlsInstance*>(self)->call_once() ? 0 : 1; }          \
  std::size_t e2hls_size(void* self, int port) { return static_cast<E2hlsInstance*>(self)->size(port); } \
  void e2hls_pop(void* self, int port, std::uint64_t* data, std::uint8_t* last, std::uint64_t** sides) { \
    static_cast<E2hlsInstance*>(self)->pop(port, data, last, sides);                                     \
  }                                                                                                      \
  std::size_t e2hls_place(void* self) { return static_cast<E2hlsInstance*>(self)->place(); }             \
  const char* e2hls_error(void* self) { return static_cast<E2hlsInstance*>(self)->error(); }             \
  }

#endif  // E2HLS_NATIVE_HARNESS_H
