// SPDX-License-Identifier: Apache-2.0
// A kernel small enough to be right by inspection: passes each word on, plus one, a cycle later, TLAST unchanged.
// The word 64'hDEAD stops it from accepting until reset; 64'hBAD fails an assertion; 64'hC0DE loses its TLAST.
module stand_in (
    input logic clk,
    input logic rst_n,
    input logic [63:0] s_axis_tdata,
    input logic s_axis_tvalid,
    output logic s_axis_tready,
    input logic s_axis_tlast,
    output logic [63:0] m_axis_tdata,
    output logic m_axis_tvalid,
    input logic m_axis_tready,
    output logic m_axis_tlast
);
  logic stuck_q;
  logic accept;

  assign s_axis_tready = !stuck_q && (!m_axis_tvalid || m_axis_tready);
  assign accept = s_axis_tvalid && s_axis_tready;

  always_ff @(posedge clk) begin
    if (!rst_n) begin
      m_axis_tvalid <= 1'b0;
      stuck_q <= 1'b0;
    end else begin
      if (m_axis_tready) m_axis_tvalid <= 1'b0;
      if (accept) begin
        m_axis_tvalid <= 1'b1;
        m_axis_tdata <= s_axis_tdata + 64'd1;
        m_axis_tlast <= s_axis_tlast && s_axis_tdata != 64'hC0DE;
        stuck_q <= s_axis_tdata == 64'hDEAD;
      end
    end
  end

  assert property (@(posedge clk) disable iff (!rst_n) !(accept && s_axis_tdata == 64'hBAD));
endmodule
