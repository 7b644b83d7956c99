// SPDX-License-Identifier: Apache-2.0
// Four banks filled in turn (the bank is a variable), then read side by side and summed.
#include <ap_int.h>
#include <hls_stream.h>

static constexpr int kBanks = 4;
static constexpr int kRows = 16;

extern "C" void banks(hls::stream<ap_uint<12>>& x_in, hls::stream<ap_uint<14>>& sum_out) {
  ap_uint<12> store[kBanks][kRows];
  #pragma HLS ARRAY_PARTITION variable=store dim=1 complete
fill:
  for (int i = 0; i < kBanks * kRows; ++i) {
    #pragma HLS PIPELINE II=1
    store[i % kBanks][i / kBanks] = x_in.read();
  }
drain:
  for (int row = 0; row < kRows; ++row) {
    #pragma HLS PIPELINE II=1
    ap_uint<14> sum = 0;
    for (int bank = 0; bank < kBanks; ++bank) {
      sum += store[bank][row];
    }
    sum_out.write(sum);
  }
}
