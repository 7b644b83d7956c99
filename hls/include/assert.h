// SPDX-License-Identifier: Apache-2.0
// assert() of a native build that checks a kernel: a condition that does not hold ends the run. In any other
// build it is the system's. Like that, it may be included more than once.
#ifndef E2HLS_ASSERTIONS
  #include_next <assert.h>
#else
  #include "native_error.h"
  #undef assert
  #define assert(...) \
    (static_cast<bool>(__VA_ARGS__) ? static_cast<void>(0) : e2hls::fail_assertion(#__VA_ARGS__))
#endif
