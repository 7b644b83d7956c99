// SPDX-License-Identifier: Apache-2.0
// Print at a simulation's end which FIFOs are full, with a word waiting, and which are empty; for the harness.
module e2hls_fifo_probe (
  input logic in_valid_i,
  input logic in_ready_o,
  input logic out_valid_o
);

  final begin
    if (in_valid_i && !in_ready_o) $display(".full %m");
    if (!out_valid_o) $display(".empty %m");
  end

endmodule

bind e2hls_fifo e2hls_fifo_probe probe (.*);
