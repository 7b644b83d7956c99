// SPDX-License-Identifier: Apache-2.0
// One beat of an AXI4-Stream, with the vendor's names.
#ifndef E2HLS_AP_AXI_SDATA_H
#define E2HLS_AP_AXI_SDATA_H

#include "ap_int.h"

namespace e2hls {

struct Absent {};  // a side channel of width 0

template <int kWidth>
struct SideChannel {
  using Type = ap_uint<kWidth>;
};
template <>
struct SideChannel<0> {
  using Type = Absent;
};

template <typename Data, int kUser, int kId, int kDest>
struct AxiBeat {
  static constexpr int kDataWidth = Data::width;

  Data data;
  ap_uint<(kDataWidth + 7) / 8> keep;
  ap_uint<(kDataWidth + 7) / 8> strb;
  [[no_unique_address]] typename SideChannel<kUser>::Type user;
  ap_uint<1> last;
  [[no_unique_address]] typename SideChannel<kId>::Type id;
  [[no_unique_address]] typename SideChannel<kDest>::Type dest;
};

}  // namespace e2hls

template <int kData, int kUser, int kId, int kDest>
struct ap_axiu : e2hls::AxiBeat<ap_uint<kData>, kUser, kId, kDest> {};

template <int kData, int kUser, int kId, int kDest>
struct ap_axis : e2hls::AxiBeat<ap_int<kData>, kUser, kId, kDest> {};

#endif  // E2HLS_AP_AXI_SDATA_H
