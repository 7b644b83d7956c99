// SPDX-License-Identifier: Apache-2.0
// out = in, in order; up to two words that are not taken at once wait in registers.
//
// Latency 0, or more while the sink stalls; a word per cycle. The source is never told to wait: it must not
// have more than two words on their way beside the one that the sink has taken last.
module e2hls_requests #(
  parameter int Width = 1
) (
  input  logic             clk_i,
  input  logic             rst_ni,
  input  logic             in_valid_i,
  input  logic [Width-1:0] in_data_i,
  output logic             out_valid_o,
  input  logic             out_ready_i,
  output logic [Width-1:0] out_data_o
);

  if (Width < 1) begin : gen_check
    $fatal(1, "%m: Width=%0d must be at least 1", Width);
  end

  logic waits_q, full_q;  // a word waits; and one more behind it
  logic [Width-1:0] first_q, second_q;

  assign out_valid_o = waits_q || in_valid_i;
  assign out_data_o  = waits_q ? first_q : in_data_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      waits_q <= 1'b0;
      full_q  <= 1'b0;
    end else begin
      waits_q <= full_q || (waits_q ? in_valid_i || !out_ready_i : in_valid_i && !out_ready_i);
      full_q  <= full_q ? in_valid_i || !out_ready_i : waits_q && in_valid_i && !out_ready_i;
    end
  end
  always_ff @(posedge clk_i) begin
    if (!waits_q || out_ready_i) first_q <= full_q ? second_q : in_data_i;
    if (!full_q || out_ready_i) second_q <= in_data_i;
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (rst_ni && full_q && in_valid_i && !out_ready_i) begin
      $error("%m: a request comes while two wait");
    end
  end
`endif

endmodule
