// SPDX-License-Identifier: Apache-2.0
// out = in, in order, at most Depth words behind; Initial words of zero wait there after reset.
//
// Latency 1; a word per cycle, with Depth 1 every other cycle. Ready and valid come from registers alone.
module e2hls_fifo #(
  parameter int Width = 1,
  parameter int Depth = 2,
  parameter int Initial = 0
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

  if (Depth < 1 || Initial < 0 || Initial > Depth) begin : gen_check
    $fatal(1, "%m: Initial=%0d must be in 0..Depth=%0d", Initial, Depth);
  end

  logic push, pop;
  assign push = in_valid_i && in_ready_o;
  assign pop = out_valid_o && out_ready_i;

  if (Depth == 1) begin : gen_slice
    logic full_q;
    logic [Width-1:0] data_q;

    assign in_ready_o = !full_q;
    assign out_valid_o = full_q;
    assign out_data_o = data_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) full_q <= Initial == 1;
      else full_q <= full_q ? !out_ready_i : in_valid_i;
    end
    always_ff @(posedge clk_i) begin
      if (push) data_q <= in_data_i;
    end
  end else begin : gen_queue
    localparam int PointerBits = $clog2(Depth);
    localparam int CountBits = $clog2(Depth + 1);
    localparam logic [PointerBits-1:0] Last = PointerBits'(Depth - 1);

    logic [Width-1:0] mem[Depth];
    logic [PointerBits-1:0] write_q, read_q;
    logic [CountBits-1:0] count_q;
    logic ready_q, valid_q;  // count_q != Depth, count_q != 0

    if (Initial > 0) begin : gen_initial
      initial for (int i = 0; i < Depth; i++) mem[i] = '0;
    end

    assign in_ready_o = ready_q;
    assign out_valid_o = valid_q;
    assign out_data_o = mem[read_q];

    always_ff @(posedge clk_i) begin
      if (push) mem[write_q] <= in_data_i;
    end
    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        write_q <= Initial == Depth ? '0 : PointerBits'(Initial);
        read_q <= '0;
        count_q <= CountBits'(Initial);
        ready_q <= Initial != Depth;
        valid_q <= Initial != 0;
      end else begin
        // Push and pop come late in a cycle: they enable registers, and pass no adder.
        if (push) write_q <= write_q == Last ? '0 : write_q + 1'b1;
        if (pop) read_q <= read_q == Last ? '0 : read_q + 1'b1;
        if (push != pop) begin
          count_q <= push ? count_q + 1'b1 : count_q - 1'b1;
          ready_q <= !push || count_q != CountBits'(Depth - 1);
          valid_q <= push || count_q != CountBits'(1);
        end
      end
    end
  end

`ifndef SYNTHESIS
  // Once valid, a word and its valid hold until ready.
  logic waiting_q;
  logic [Width-1:0] offered_q;
  always_ff @(posedge clk_i) begin
    waiting_q <= rst_ni && in_valid_i && !in_ready_o;
  end
  always_ff @(posedge clk_i) begin
    if (in_valid_i && !in_ready_o) offered_q <= in_data_i;
  end
  always_ff @(posedge clk_i) begin
    if (rst_ni && waiting_q) begin
      assert (in_valid_i && in_data_i == offered_q) else $error("%m: an offered word was withdrawn");
    end
  end
`endif

endmodule
