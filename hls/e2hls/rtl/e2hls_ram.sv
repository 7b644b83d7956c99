// SPDX-License-Identifier: Apache-2.0
// data(t + 1) = mem[read_addr(t)]; a write at t is seen by reads from t + 1 on, one in reset never: the
// writer's registers may hold anything then, and initial values must outlast it.
//
// One write port without handshake, one read port with. The response stays in the memory's own output
// register until it is taken, so a read per cycle needs no further storage.
module e2hls_ram #(
  parameter int Width = 1,
  parameter int Depth = 2,
  parameter int AddrBits = 1,
  parameter bit HasInit = 0,
  parameter logic [(HasInit ? Width * Depth : 1)-1:0] Init = '0  // word 0 lowest
) (
  input  logic                clk_i,
  input  logic                rst_ni,
  input  logic                write_i,
  input  logic [AddrBits-1:0] write_addr_i,
  input  logic [   Width-1:0] write_data_i,
  input  logic                read_valid_i,
  output logic                read_ready_o,
  input  logic [AddrBits-1:0] read_addr_i,
  output logic                data_valid_o,
  input  logic                data_ready_i,
  output logic [   Width-1:0] data_o
);

  if ((1 << AddrBits) < Depth) begin : gen_check
    $fatal(1, "%m: AddrBits=%0d cannot address Depth=%0d words", AddrBits, Depth);
  end

  logic [Width-1:0] mem[Depth];
  logic [Width-1:0] data_q;
  logic pending_q;

  if (HasInit) begin : gen_init
    initial for (int i = 0; i < Depth; i++) mem[i] = Init[i*Width+:Width];
  end

  assign read_ready_o = !pending_q || data_ready_i;
  assign data_valid_o = pending_q;
  assign data_o = data_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) pending_q <= 1'b0;
    else if (read_ready_o) pending_q <= read_valid_i;
  end

  always_ff @(posedge clk_i) begin
    if (rst_ni && write_i) mem[write_addr_i] <= write_data_i;
    if (read_valid_i && read_ready_o) data_q <= mem[read_addr_i];
  end

endmodule
