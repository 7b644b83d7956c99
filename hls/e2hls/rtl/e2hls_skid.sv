// SPDX-License-Identifier: Apache-2.0
// out = in, in order; a word that is not taken at once waits in a register.
//
// Latency 0, or more while the sink stalls; a word per cycle. Ready comes from a register alone, so that a
// stall of the sink reaches the source one cycle later.
module e2hls_skid #(
  parameter int Width = 1
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             in_valid_i,
  output logic             in_ready_o,
  input  logic [Width-1:0] in_data_i,
  output logic             out_valid_o,
  input  logic             out_ready_i,
  output logic [Width-1:0] out_data_o
);

  if (Width < 1) begin : gen_check
    $fatal(1, "%m: Width=%0d must be at least 1", Width);
  end

  logic waits_q;
  logic [Width-1:0] data_q;

  assign in_ready_o = !waits_q;
  assign out_valid_o = waits_q || in_valid_i;
  assign out_data_o = waits_q ? data_q : in_data_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) waits_q <= 1'b0;
    else waits_q <= out_valid_o && !out_ready_i;
  end
  always_ff @(posedge clk_i) begin
    if (!waits_q) data_q <= in_data_i;
  end

endmodule
