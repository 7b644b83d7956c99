// SPDX-License-Identifier: Apache-2.0
// The training engine: convolution forward, its input gradient and its weight gradient on one multiplier
// array, and element-wise operations, commanded by frames in the stream. load -> compute -> collect -> store
// -> sums, report, each busy with a frame of its own.
#include <ap_axi_sdata.h>
#include <ap_int.h>
#include <hls_stream.h>
#include <hls_vector.h>

#include "collect.hpp"
#include "compute.hpp"
#include "engine_config.hpp"
#include "load.hpp"
#include "report.hpp"
#include "store.hpp"
#include "sums.hpp"

using engine_config::kConfigHash;
using engine_config::kIcLanes;
using engine_config::kOcLanes;
using engine_config::kWDepth;
using engine_config::kXDepth;

constexpr int kWrapBits = wrap_bits(kOcLanes, kWDepth);

extern "C" void engine(hls::stream<Beat>& s_axis, hls::stream<Beat>& m_axis) {
  #pragma HLS INTERFACE axis port=s_axis
  #pragma HLS INTERFACE axis port=m_axis
  #pragma HLS INTERFACE ap_ctrl_none port=return
  #pragma HLS DATAFLOW
  ap_uint<16 * kIcLanes> x_buf[kXDepth];
  ap_uint<8 * kIcLanes> w_buf[2 * kOcLanes][kWDepth / 2];
  #pragma HLS ARRAY_PARTITION variable=w_buf dim=1 complete
  ap_uint<kPixelLanes> mask_buf[kXDepth];
  ap_uint<kCoefficientBits> coefficient_buf[kCoefficientDepth];
  hls::stream<Word> plans("plans");
  #pragma HLS STREAM variable=plans depth=16
  hls::stream<StoreCommand> sum_commands("sum_commands");
  #pragma HLS STREAM variable=sum_commands depth=2
  hls::stream<StoreCommand> store_commands("store_commands");
  #pragma HLS STREAM variable=store_commands depth=2
  hls::stream<Bundle<kIcLanes, kOcLanes>> bundles("bundles");
  #pragma HLS STREAM variable=bundles depth=1
  hls::stream<Wraps<kIcLanes, kOcLanes, kWrapBits>> wraps("wraps");
  #pragma HLS STREAM variable=wraps depth=1
  hls::stream<Quad> quads("quads");
  #pragma HLS STREAM variable=quads depth=2
  hls::stream<Elements> elements("elements");
  #pragma HLS STREAM variable=elements depth=2
  hls::stream<ap_uint<32>> iterations("iterations");
  #pragma HLS STREAM variable=iterations depth=2
  hls::stream<ReportCommand> report_commands("report_commands");
  #pragma HLS STREAM variable=report_commands depth=2
  hls::stream<SumsCommand> plane_commands("plane_commands");
  #pragma HLS STREAM variable=plane_commands depth=2
  hls::stream<Result> results("results");
  #pragma HLS STREAM variable=results depth=2
  hls::stream<SideRow> rows("rows");
  #pragma HLS STREAM variable=rows depth=2
  hls::stream<SumWord> side_words("side_words");
  #pragma HLS STREAM variable=side_words depth=2
  hls::stream<Summary> summaries("summaries");
  #pragma HLS STREAM variable=summaries depth=2
  load<kIcLanes, kOcLanes, kXDepth, kWDepth>(s_axis, x_buf, w_buf, mask_buf, coefficient_buf, plans);
  compute<kIcLanes, kOcLanes, kXDepth, kWDepth, kWrapBits>(
      x_buf, w_buf, mask_buf, coefficient_buf, plans, sum_commands, bundles, wraps, elements, iterations);
  collect<kIcLanes, kOcLanes, kWrapBits>(sum_commands, bundles, wraps, store_commands, quads);
  store(store_commands, quads, elements, report_commands, plane_commands, results, rows, summaries);
  sums(plane_commands, rows, side_words);
  report<kIcLanes, kOcLanes, kXDepth, kWDepth, kConfigHash>(report_commands, results, side_words, summaries,
                                                            iterations, m_axis);
}
