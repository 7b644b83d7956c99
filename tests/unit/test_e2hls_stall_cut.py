# SPDX-License-Identifier: Apache-2.0
"""The skid buffer between the first two stages: its text, and which processes get one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlOptions
from e2hls.pipeline import generate, lower
from e2hls.xls_verilog.stall_cut import cut_stall_chain

KERNELS = Path(__file__).parents[1] / "rtl" / "kernels"
TWO_STAGES = """\
module two(
  input wire clk
);
  reg [7:0] p0_a;
  reg p1_inputs_valid;

  assign stage_outputs_ready_0 = not_7 | p1_stage_done__1;
  always_ff @ (posedge clk) begin
    p0_a <= or_9 ? n1 : p0_a;
  end
  always_ff @ (posedge clk) begin
    if (!rst_n) begin
      p1_inputs_valid <= 1'h0;
    end else begin
      p1_inputs_valid <= or_8 ? p0_stage_done__1 : p1_inputs_valid;
    end
  end
endmodule
"""
WITH_BUFFER = """\
module two(
  input wire clk
);
  reg [7:0] p0_a;
  reg [7:0] skid0_a;
  reg p1_inputs_valid;

  reg skid0_waits;
  wire stage_1_fed;
  wire stage_1_takes;
  assign stage_outputs_ready_0 = ~skid0_waits;
  assign stage_1_takes = not_7 | p1_stage_done__1;
  assign stage_1_fed = skid0_waits | p0_stage_done__1;
  always_ff @ (posedge clk) begin
    p0_a <= stage_1_takes ? skid0_waits ? skid0_a : n1 : p0_a;
    skid0_a <= stage_outputs_ready_0 ? n1 : skid0_a;
  end
  always_ff @ (posedge clk) begin
    if (!rst_n) begin
      p1_inputs_valid <= 1'h0;
      skid0_waits <= 1'h0;
    end else begin
      p1_inputs_valid <= stage_1_takes ? stage_1_fed : p1_inputs_valid;
      skid0_waits <= stage_1_fed & ~stage_1_takes;
    end
  end
endmodule
"""


def test_stage_0_is_ready_by_a_register_alone() -> None:
    assert cut_stall_chain(TWO_STAGES) == WITH_BUFFER


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  assign stage_outputs_ready_0 = not_7 | p1_stage_done__1;\n", ""),  # a single stage
        ("p0_a <= or_9 ? n1 : p0_a;", "p0_a <= n1;"),
        ("      p1_inputs_valid <= 1'h0;\n", ""),
    ],
    ids=["one-stage", "register", "reset"],
)
def test_what_xls_would_not_write_is_left_as_it_is(old: str, new: str) -> None:
    text = TWO_STAGES.replace(old, new)
    assert text != TWO_STAGES
    assert cut_stall_chain(text) == text


@pytest.mark.parametrize(
    ("kernel", "buffered"),
    [
        ("matmul", True),
        ("pingpong", True),
        ("sums", False),  # what it reads may be on its way to the RAM, one activation per stage
        ("vadd", False),  # a single stage
    ],
)
def test_processes_of_several_stages_have_the_buffer(kernel: str, buffered: bool, tmp_path: Path) -> None:
    design = generate(lower(Kernel(kernel, KERNELS / f"{kernel}.cpp")), RtlOptions(), tmp_path)
    modules = [
        path for path in design.verilog_files if path.stem in {p.module for p in design.report.processes}
    ]
    texts = "".join(path.read_text() for path in modules)
    assert ("assign stage_outputs_ready_0 = ~skid0_waits;" in texts) is buffered
    # Memories and streams are ready by registers too.
    top = next(path for path in design.verilog_files if path.stem == design.name).read_text()
    readers = re.findall(r"e2hls_ram #\(.*\) ram_(\w+) \($", top, re.M)
    assert all(re.search(rf"e2hls_skid #\(.*\) skid_{name}_r?req \($", top, re.M) for name in readers)
