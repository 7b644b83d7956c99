// SPDX-License-Identifier: Apache-2.0
// One beat of an AXI4-Stream, with the vendor's names.
#ifndef E2HLS_AP_AXI_SDATA_H
#define E2HLS_AP_AXI_SDATA_H

#include "hls_stream_flat.h"

// Which channels a beat has.
#define AXIS_ENABLE_DATA 0b00000001
#define AXIS_ENABLE_DEST 0b00000010
#define AXIS_ENABLE_ID 0b00000100
#define AXIS_ENABLE_KEEP 0b00001000
#define AXIS_ENABLE_LAST 0b00010000
#define AXIS_ENABLE_STRB 0b00100000
#define AXIS_ENABLE_USER 0b01000000
#define AXIS_ENABLE_ALL 0b01111111
#define AXIS_DISABLE_DATA (AXIS_ENABLE_ALL ^ AXIS_ENABLE_DATA)
#define AXIS_DISABLE_DEST (AXIS_ENABLE_ALL ^ AXIS_ENABLE_DEST)
#define AXIS_DISABLE_ID (AXIS_ENABLE_ALL ^ AXIS_ENABLE_ID)
#define AXIS_DISABLE_KEEP (AXIS_ENABLE_ALL ^ AXIS_ENABLE_KEEP)
#define AXIS_DISABLE_LAST (AXIS_ENABLE_ALL ^ AXIS_ENABLE_LAST)
#define AXIS_DISABLE_STRB (AXIS_ENABLE_ALL ^ AXIS_ENABLE_STRB)
#define AXIS_DISABLE_USER (AXIS_ENABLE_ALL ^ AXIS_ENABLE_USER)
#define AXIS_DISABLE_ALL 0b00000000

namespace e2hls {

template <int kWidth>
struct SideChannel {
  using Type = ap_uint<kWidth>;
};
template <>
struct SideChannel<0> {
  using Type = Absent;
};
template <int kWidth, bool kEnabled>
using Side = typename SideChannel<kEnabled ? kWidth : 0>::Type;

}  // namespace e2hls

namespace hls {

template <typename Data, int kUser = 0, int kId = 0, int kDest = 0, unsigned char kEnabled = AXIS_ENABLE_ALL,
          bool kStrict = false>
struct axis {
  static_assert((kEnabled & AXIS_ENABLE_DATA) != 0, "hls::axis: a beat without data is not supported");
  static_assert((kEnabled & AXIS_ENABLE_LAST) != 0 || (kEnabled & ~AXIS_ENABLE_DATA) == 0,
                "hls::axis: side channels without AXIS_ENABLE_LAST are not supported");
  static constexpr int kDataWidth = e2hls::Flat<Data>::kWidth;
  static constexpr int kBytes = (kDataWidth + 7) / 8;
  static constexpr bool kHasLast = (kEnabled & AXIS_ENABLE_LAST) != 0;

  Data data;
  [[no_unique_address]] e2hls::Side<kBytes, (kEnabled & AXIS_ENABLE_KEEP) != 0> keep;
  [[no_unique_address]] e2hls::Side<kBytes, (kEnabled & AXIS_ENABLE_STRB) != 0> strb;
  [[no_unique_address]] e2hls::Side<kUser, (kEnabled & AXIS_ENABLE_USER) != 0> user;
  [[no_unique_address]] e2hls::Side<1, kHasLast> last;
  [[no_unique_address]] e2hls::Side<kId, (kEnabled & AXIS_ENABLE_ID) != 0> id;
  [[no_unique_address]] e2hls::Side<kDest, (kEnabled & AXIS_ENABLE_DEST) != 0> dest;

  E2HLS_INLINE Data get_data() const { return data; }
  E2HLS_INLINE auto get_keep() const { return keep; }
  E2HLS_INLINE auto get_strb() const { return strb; }
  E2HLS_INLINE auto get_user() const { return user; }
  E2HLS_INLINE auto get_last() const { return last; }
  E2HLS_INLINE auto get_id() const { return id; }
  E2HLS_INLINE auto get_dest() const { return dest; }
  template <typename T>
  E2HLS_INLINE void set_data(const T& x) {
    data = x;
  }
  template <typename T>
  E2HLS_INLINE void set_keep(const T& x) {
    keep = x;
  }
  template <typename T>
  E2HLS_INLINE void set_strb(const T& x) {
    strb = x;
  }
  template <typename T>
  E2HLS_INLINE void set_user(const T& x) {
    user = x;
  }
  template <typename T>
  E2HLS_INLINE void set_last(const T& x) {
    last = x;
  }
  template <typename T>
  E2HLS_INLINE void set_id(const T& x) {
    id = x;
  }
  template <typename T>
  E2HLS_INLINE void set_dest(const T& x) {
    dest = x;
  }
  E2HLS_INLINE void keep_all() { keep = -1; }
  E2HLS_INLINE void strb_all() { strb = -1; }
};

template <typename Data, unsigned char kEnabled = AXIS_ENABLE_DATA>
using axis_data = axis<Data, 0, 0, 0, kEnabled>;

}  // namespace hls

template <int kData, int kUser = 0, int kId = 0, int kDest = 0, unsigned char kEnabled = AXIS_ENABLE_ALL>
struct ap_axiu : hls::axis<ap_uint<kData>, kUser, kId, kDest, kEnabled> {};
template <int kData, int kUser = 0, int kId = 0, int kDest = 0, unsigned char kEnabled = AXIS_ENABLE_ALL>
struct ap_axis : hls::axis<ap_int<kData>, kUser, kId, kDest, kEnabled> {};
// Without a byte strobe.
template <int kData, int kUser = 0, int kId = 0, int kDest = 0>
struct qdma_axis : hls::axis<ap_uint<kData>, kUser, kId, kDest, AXIS_DISABLE_STRB> {};

#include "hls_stream.h"  // as the vendor's header does

#endif  // E2HLS_AP_AXI_SDATA_H
