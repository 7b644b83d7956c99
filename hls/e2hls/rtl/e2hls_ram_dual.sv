// SPDX-License-Identifier: Apache-2.0
// Two ports, a and b, of one memory, each of which reads or writes: data(t + 1) = mem[addr(t)], as it was
// before any write at t. No write takes place in reset.
//
// One request for both ports, taken where neither response waits for its taker. A response stays in the
// memory's own output register until it is taken, so a request per cycle needs no further storage.
module e2hls_ram_dual #(
  parameter int Width = 1,
  parameter int Depth = 2,
  parameter int AddrBits = 1,
  parameter bit HasInit = 0,
  parameter logic [(HasInit ? Width * Depth : 1)-1:0] Init = '0  // word 0 lowest
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  input  logic                a_write_i,
  input  logic                a_read_i,
  input  logic [AddrBits-1:0] a_addr_i,
  input  logic [   Width-1:0] a_data_i,
  output logic                a_valid_o,
  input  logic                a_ready_i,
  output logic [   Width-1:0] a_data_o,
  input  logic                b_write_i,
  input  logic                b_read_i,
  input  logic [AddrBits-1:0] b_addr_i,
  input  logic [   Width-1:0] b_data_i,
  output logic                b_valid_o,
  input  logic                b_ready_i,
  output logic [   Width-1:0] b_data_o,
  input  logic                valid_i,
  output logic                ready_o
);

  if ((1 << AddrBits) < Depth) begin : gen_check
    $fatal(1, "%m: AddrBits=%0d cannot address Depth=%0d words", AddrBits, Depth);
  end

  logic [Width-1:0] mem[Depth];
  logic a_pending_q, b_pending_q;
  logic go;

  if (HasInit) begin : gen_init
    initial for (int i = 0; i < Depth; i++) mem[i] = Init[i*Width+:Width];
  end

  assign ready_o = (!a_pending_q || a_ready_i) && (!b_pending_q || b_ready_i);
  assign go = rst_ni && valid_i && ready_o;
  assign a_valid_o = a_pending_q;
  assign b_valid_o = b_pending_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) a_pending_q <= 1'b0;
    else if (go) a_pending_q <= a_read_i;
    else if (a_ready_i) a_pending_q <= 1'b0;
  end
  always_ff @(posedge clk_i) begin
    if (!rst_ni) b_pending_q <= 1'b0;
    else if (go) b_pending_q <= b_read_i;
    else if (b_ready_i) b_pending_q <= 1'b0;
  end

  // Two processes of one memory: synthesis takes each for a port.
  always @(posedge clk_i) begin
    if (go && a_write_i) mem[a_addr_i] <= a_data_i;
    if (go && a_read_i) a_data_o <= mem[a_addr_i];
  end
  always @(posedge clk_i) begin
    if (go && b_write_i) mem[b_addr_i] <= b_data_i;
    if (go && b_read_i) b_data_o <= mem[b_addr_i];
  end

`ifndef SYNTHESIS
  always_ff @(posedge clk_i) begin
    if (go && a_write_i && b_write_i) begin
      assert (a_addr_i != b_addr_i) else $error("%m: both ports write word %0d", a_addr_i);
    end
  end
`endif

endmodule
