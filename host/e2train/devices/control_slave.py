# SPDX-License-Identifier: Apache-2.0
"""Verilog of the AXI4-Lite slave that starts a kernel, gives it its scalars and keeps its result.

One access at a time. A call begins with a word to each of the kernel's streams of scalars, all in one cycle;
it is done when the kernel says so and its output stream is empty. ap_ready comes with ap_done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from e2train.overlay.control import RESULT, Scalar

__all__ = ["ADDRESS_BITS", "AXI_PINS", "control_slave"]

ADDRESS_BITS = 12
_BUS = "s_axi_control"
# name, bits, whether the slave drives it
AXI_PINS = (
    (f"{_BUS}_awaddr", ADDRESS_BITS, False),
    (f"{_BUS}_awvalid", 1, False),
    (f"{_BUS}_awready", 1, True),
    (f"{_BUS}_wdata", 32, False),
    (f"{_BUS}_wstrb", 4, False),
    (f"{_BUS}_wvalid", 1, False),
    (f"{_BUS}_wready", 1, True),
    (f"{_BUS}_bresp", 2, True),
    (f"{_BUS}_bvalid", 1, True),
    (f"{_BUS}_bready", 1, False),
    (f"{_BUS}_araddr", ADDRESS_BITS, False),
    (f"{_BUS}_arvalid", 1, False),
    (f"{_BUS}_arready", 1, True),
    (f"{_BUS}_rdata", 32, True),
    (f"{_BUS}_rresp", 2, True),
    (f"{_BUS}_rvalid", 1, True),
    (f"{_BUS}_rready", 1, False),
    ("s_axi_aresetn", 1, False),  # of the registers; rst_n is that of the kernel and its calls
)

_ACCESS = f"""\
  // An address and its data are taken together.
  reg b_q, r_q;
  reg [31:0] rdata_q;
  wire write = {_BUS}_awvalid && {_BUS}_wvalid && !b_q;
  wire read = {_BUS}_arvalid && !r_q;
  wire [11:0] write_at = {_BUS}_awaddr, read_at = {_BUS}_araddr;
  wire [31:0] data = {_BUS}_wdata;
  wire [31:0] mask = {{{{8{{{_BUS}_wstrb[3]}}}}, {{8{{{_BUS}_wstrb[2]}}}},
                      {{8{{{_BUS}_wstrb[1]}}}}, {{8{{{_BUS}_wstrb[0]}}}}}};
  assign {_BUS}_awready = write;
  assign {_BUS}_wready = write;
  assign {_BUS}_bvalid = b_q;
  assign {_BUS}_bresp = 2'b00;
  assign {_BUS}_arready = !r_q;
  assign {_BUS}_rvalid = r_q;
  assign {_BUS}_rdata = rdata_q;
  assign {_BUS}_rresp = 2'b00;
  always @(posedge clk) begin
    if (!s_axi_aresetn) b_q <= 1'b0;
    else b_q <= write || (b_q && !{_BUS}_bready);
  end
  always @(posedge clk) begin
    if (!s_axi_aresetn) r_q <= 1'b0;
    else r_q <= read || (r_q && !{_BUS}_rready);
  end

  // ap_ctrl_hs
  reg start_q, running_q, done_q, ready_q, restart_q, restarted_q, idle_q;
  wire idle = !start_q && !running_q;
  wire write_control = write && write_at == 12'h000 && mask[0];
  wire read_control = read && read_at == 12'h000;
  assign launch = start_q && !running_q && taken;
  wire task_done = (done && !restarted_q) || (restarted_q && idle && !idle_q);
  always @(posedge clk) begin
    if (!rst_n) begin
      start_q <= 1'b0;
      running_q <= 1'b0;
      done_q <= 1'b0;
      ready_q <= 1'b0;
      restart_q <= 1'b0;
      restarted_q <= 1'b0;
      idle_q <= 1'b1;
    end else begin
      if (write_control && data[0]) start_q <= 1'b1;
      else if (done) start_q <= restart_q;
      running_q <= launch || (running_q && !done);
      done_q <= task_done || (done_q && !read_control);
      ready_q <= (done && !restart_q) || (ready_q && !read_control);
      if (write_control) restart_q <= data[7];
      restarted_q <= restart_q || (restarted_q && !idle);
      idle_q <= idle;
    end
  end
  assign running = running_q;

  // What an interrupt would tell; no pin leads there.
  reg gie_q;
  reg [1:0] ier_q, isr_q;
  wire [1:0] toggled = write && write_at == 12'h00c ? data[1:0] & mask[1:0] : 2'b00;
  always @(posedge clk) begin
    if (!s_axi_aresetn) begin
      gie_q <= 1'b0;
      ier_q <= 2'b00;
    end else begin
      if (write && write_at == 12'h004 && mask[0]) gie_q <= data[0];
      if (write && write_at == 12'h008 && mask[0]) ier_q <= data[1:0];
    end
  end
  always @(posedge clk) begin
    if (!rst_n) isr_q <= 2'b00;
    else isr_q <= done ? (isr_q ^ toggled) | ier_q : isr_q ^ toggled;
  end
"""


def control_slave(scalars: Sequence[Scalar]) -> Iterator[str]:
    """The module ``engine_control``; a scalar named RESULT is what the kernel gives."""
    inputs = [each for each in scalars if each.name != RESULT]
    result = next((each for each in scalars if each.name == RESULT), None)
    yield "module engine_control ("
    yield "  input  wire clk,"
    yield "  input  wire rst_n,"
    yield from (f"  {_direction(out)} wire [{bits - 1}:0] {name}," for name, bits, out in AXI_PINS)
    yield from (f"  output wire [{each.bits - 1}:0] arg_{each.name}," for each in inputs)
    if result is not None:
        yield f"  input  wire [{result.bits - 1}:0] result,"
    yield "  output wire launch,  // a call: its scalars are taken in this cycle"
    yield "  input  wire taken,   // whether they can be"
    yield "  output wire running,"
    yield "  input  wire done     // of a call that runs, and its result"
    yield ");"
    yield from _ACCESS.splitlines()
    yield ""
    for each in inputs:
        yield from _argument(each)
    if result is not None:
        yield f"  reg [{result.bits - 1}:0] q_{RESULT};"
        yield "  always @(posedge clk) begin"
        yield f"    if (!s_axi_aresetn) q_{RESULT} <= {result.bits}'d0;"
        yield f"    else if (done) q_{RESULT} <= result;"
        yield "  end"
    yield from _reads(scalars)
    yield "endmodule"
    yield ""


def _direction(output: bool) -> str:
    return "output" if output else "input "


def _argument(scalar: Scalar) -> Iterator[str]:
    held = f"q_{scalar.name}"
    yield f"  reg [{scalar.bits - 1}:0] {held};"
    yield f"  assign arg_{scalar.name} = {held};"
    yield "  always @(posedge clk) begin"
    yield f"    if (!s_axi_aresetn) {held} <= {scalar.bits}'d0;"
    yield "    else if (write) begin"
    for offset, low, width in scalar.halves:
        part, bits = f"{held}[{low + width - 1}:{low}]", f"[{width - 1}:0]"
        yield f"      if (write_at == 12'h{offset:03x})"
        yield f"        {part} <= (data{bits} & mask{bits}) | ({part} & ~mask{bits});"
    yield "    end"
    yield "  end"


def _reads(scalars: Sequence[Scalar]) -> Iterator[str]:
    yield "  always @(posedge clk) begin"
    yield "    if (read) begin"
    yield "      case (read_at)"
    yield "        12'h000: rdata_q <= {24'd0, restart_q, 3'd0, ready_q, idle, done_q, start_q};"
    yield "        12'h004: rdata_q <= {31'd0, gie_q};"
    yield "        12'h008: rdata_q <= {30'd0, ier_q};"
    yield "        12'h00c: rdata_q <= {30'd0, isr_q};"
    for each in scalars:
        for offset, low, width in each.halves:
            above = f"{32 - width}'d0, " if width < 32 else ""
            part = f"q_{each.name}[{low + width - 1}:{low}]"
            yield f"        12'h{offset:03x}: rdata_q <= {{{above}{part}}};"
    yield "        default: rdata_q <= 32'd0;"
    yield "      endcase"
    yield "    end"
    yield "  end"
