// SPDX-License-Identifier: Apache-2.0
// What ends the native run of a kernel, with the place that it had reached.
#ifndef E2HLS_NATIVE_ERROR_H
#define E2HLS_NATIVE_ERROR_H

#include <cstddef>
#include <exception>
#include <string>

namespace e2hls {

struct RunError : std::exception {
  std::string message;
  const void* place;  // an address in the kernel's code

  RunError(const std::string& text, const void* at) : message(text), place(at) {}
  const char* what() const noexcept override { return message.c_str(); }
};

[[noreturn, gnu::noinline, gnu::cold]] inline void fail_index(int index, int width) {
  throw RunError("bit " + std::to_string(index) + " of a number of " + std::to_string(width) +
                     " bits is accessed; they are counted from 0 to " + std::to_string(width - 1),
                 __builtin_return_address(0));
}

[[noreturn, gnu::noinline, gnu::cold]] inline void fail_element(long long index, std::size_t count) {
  throw RunError("element " + std::to_string(index) + " of a vector of " + std::to_string(count) +
                     " is accessed; they are counted from 0 to " + std::to_string(count - 1),
                 __builtin_return_address(0));
}

[[noreturn, gnu::noinline, gnu::cold]] inline void fail_assertion(const char* condition) {
  throw RunError("the assertion " + std::string(condition) + " does not hold", __builtin_return_address(0));
}

}  // namespace e2hls

#endif  // E2HLS_NATIVE_ERROR_H
