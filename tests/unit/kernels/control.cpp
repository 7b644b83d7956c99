// SPDX-License-Identifier: Apache-2.0
// Branches, early exits, chosen variables, structs in streams and vectors, state between calls.
#include <ap_int.h>
#include <hls_stream.h>
#include <hls_vector.h>

struct Sample {
  ap_int<11> value;
  bool odd;
  ap_uint<3> kind;
};
using Pair = hls::vector<ap_int<13>, 2>;

static int clamp(int x) { return x > 900 ? 900 : x < -900 ? -900 : x; }

extern "C" void control(hls::stream<Sample>& samples_in, hls::stream<Pair>& pairs_out) {
  static ap_uint<8> calls = 3;
  static const short table[8] = {5, -3, 250, 0, 17, -400, 1, 9};
  ap_int<13> low = 0, high = 0;
  ap_int<13> seen[4];
  #pragma HLS ARRAY_PARTITION variable=seen complete
clear:
  for (int i = 0; i < 4; ++i) {
    #pragma HLS UNROLL
    seen[i] = i;
  }
samples:
  for (int n = 0; n < 20; ++n) {
    #pragma HLS PIPELINE II=1
    const Sample sample = samples_in.read();
    if (sample.kind == 7) {
      break;
    }
    if (sample.odd) {
      continue;
    }
    ap_int<13>& which = sample.value < 0 ? low : high;
    which += clamp(sample.value * 3 + table[sample.kind]);
    seen[sample.kind[1] ? 2 : 3] = sample.kind[0] ? low : high;
    switch (sample.kind) {
      case 1:
        seen[0] = high;
        break;
      case 2:
      case 5:
        seen[1] -= low;
        break;
      case 6:
        seen[1] ^= 0x55;
        break;
      default:
        seen[0] = seen[0] + 1;
    }
  }
  ++calls;
  Pair pair(low);
  pair[1] = high + calls;
  pairs_out.write(pair);
  pair[0] = seen[0] + seen[1];
  pair[1] = seen[2] - seen[3];
  pairs_out.write(pair);
}
