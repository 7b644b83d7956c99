// SPDX-License-Identifier: Apache-2.0
// Channels with several ports on one side, with the vendor's names: words go to them, or come from them, in
// turn. Each is a process of its own.
#ifndef E2HLS_HLS_NP_CHANNEL_H
#define E2HLS_HLS_NP_CHANNEL_H

#include "hls_stream.h"

namespace e2hls {

template <typename T, int kPorts, int kDepth>
void split_round_robin(hls::stream<T, kDepth>& in, hls::stream<T, kDepth> (&out)[kPorts]) {
  for (int port = 0; port < kPorts; ++port) {
    #pragma HLS PIPELINE II=1
    out[port].write(in.read());
  }
}
template <typename T, int kPorts, int kDepth>
void merge_round_robin(hls::stream<T, kDepth> (&in)[kPorts], hls::stream<T, kDepth>& out) {
  for (int port = 0; port < kPorts; ++port) {
    #pragma HLS PIPELINE II=1
    out.write(in[port].read());
  }
}

template <typename T>
constexpr bool depends_on_time = false;

}  // namespace e2hls

namespace hls {
namespace split {

template <typename T, int kPorts, int kDepth = 2, int kPortDepth = 0>
class round_robin {
 public:
  stream<T, e2hls::max(kDepth, kPortDepth)> in;
  stream<T, e2hls::max(kDepth, kPortDepth)> out[kPorts];

#ifdef __SYNTHESIS__
  [[gnu::always_inline]] round_robin() { e2hls::split_round_robin(in, out); }
#else
  round_robin() {
    in.on_write([](void* self) { static_cast<round_robin*>(self)->hand_on(); }, this);
  }

 private:
  void hand_on() {
    out[next_].write(in.read());
    next_ = (next_ + 1) % kPorts;
  }
  int next_ = 0;
#endif
};

template <typename T, int kPorts, int kDepth = 2, int kPortDepth = 0>
class load_balance {
  static_assert(
      e2hls::depends_on_time<T>,
      "hls::split::load_balance is not supported: where a word goes depends on time; use round_robin");
};

}  // namespace split
namespace merge {

template <typename T, int kPorts, int kDepth = 2, int kPortDepth = 0>
class round_robin {
 public:
  stream<T, e2hls::max(kDepth, kPortDepth)> in[kPorts];
  stream<T, e2hls::max(kDepth, kPortDepth)> out;

#ifdef __SYNTHESIS__
  [[gnu::always_inline]] round_robin() { e2hls::merge_round_robin(in, out); }
#else
  round_robin() {
    for (auto& each : in) {
      each.on_write([](void* self) { static_cast<round_robin*>(self)->hand_on(); }, this);
    }
  }

 private:
  void hand_on() {
    for (; !in[next_].empty(); next_ = (next_ + 1) % kPorts) out.write(in[next_].read());
  }
  int next_ = 0;
#endif
};

template <typename T, int kPorts, int kDepth = 2, int kPortDepth = 0>
class load_balance {
  static_assert(
      e2hls::depends_on_time<T>,
      "hls::merge::load_balance is not supported: the order of words depends on time; use round_robin");
};

}  // namespace merge
}  // namespace hls

#endif  // E2HLS_HLS_NP_CHANNEL_H
