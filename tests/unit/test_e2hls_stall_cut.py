# SPDX-License-Identifier: Apache-2.0
"""The skid buffers between stages: their text, and which processes get them."""

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

  reg skid0_ready;
  reg skid0_waits;
  wire skid0_loads;
  wire stage_1_fed;
  wire stage_1_takes;
  assign stage_outputs_ready_0 = skid0_ready;
  assign skid0_loads = ~skid0_waits;
  assign stage_1_takes = not_7 | p1_stage_done__1;
  assign stage_1_fed = skid0_waits | p0_stage_done__1;
  always_ff @ (posedge clk) begin
    p0_a <= stage_1_takes ? skid0_waits ? skid0_a : n1 : p0_a;
    skid0_a <= skid0_loads ? n1 : skid0_a;
  end
  always_ff @ (posedge clk) begin
    if (!rst_n) begin
      p1_inputs_valid <= 1'h0;
      skid0_ready <= 1'h1;
      skid0_waits <= 1'h0;
    end else begin
      p1_inputs_valid <= stage_1_takes ? stage_1_fed : p1_inputs_valid;
      skid0_ready <= ~stage_1_fed | stage_1_takes;
      skid0_waits <= stage_1_fed & ~stage_1_takes;
    end
  end
endmodule
"""


def test_stage_0_is_ready_by_a_register_alone() -> None:
    assert cut_stall_chain(TWO_STAGES) == WITH_BUFFER


def stages(count: int) -> str:
    """A pipeline of so many stages, as XLS writes it."""
    behind = range(count - 1)
    lines = [
        "module deep(\n  input wire clk\n);",
        *(f"  reg [7:0] p{i}_a;\n  reg p{i + 1}_inputs_valid;" for i in behind),
        *(f"  assign stage_outputs_ready_{i} = not_{i} | p{i + 1}_stage_done__1;" for i in behind),
        "  always_ff @ (posedge clk) begin",
        *(f"    p{i}_a <= or_{i} ? n{i} : p{i}_a;" for i in behind),
        "    if (!rst_n) begin",
        *(f"      p{i + 1}_inputs_valid <= 1'h0;" for i in behind),
        "    end else begin",
        *(
            f"      p{i + 1}_inputs_valid <= or_{i} ? p{i}_stage_done__1 : p{i + 1}_inputs_valid;"
            for i in behind
        ),
        "    end\n  end\nendmodule\n",
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("count", "buffered"), [(1, []), (2, [0]), (4, [0]), (5, [0, 1]), (7, [0, 3]), (8, [0, 1, 4])]
)
def test_a_stall_passes_three_stages_at_most(count: int, buffered: list[int]) -> None:
    text = cut_stall_chain(stages(count))
    ready = re.findall(r"stage_outputs_ready_(\d+) = skid(\d+)_ready;", text)
    assert ready == [(str(stage), str(stage)) for stage in buffered]
    for stage in buffered:
        assert f"p{stage}_a <= stage_{stage + 1}_takes ? skid{stage}_waits ? skid{stage}_a : n{stage}" in text
        assert f"skid{stage}_waits <= stage_{stage + 1}_fed & ~stage_{stage + 1}_takes;" in text


@pytest.mark.parametrize(
    "source", ["table_rresp_tdata", "smul8b_4b_x_4b(p3_a, p3_a)"], ids=["word", "product"]
)
def test_a_buffer_goes_past_registers_of_words_and_products(source: str) -> None:
    taken = f"  assign value = {source};\n  assign n3 = value[7:0];\n"
    text = stages(7).replace("  always_ff", taken + "  always_ff")
    assert re.findall(r" stage_outputs_ready_(\d+) = skid", cut_stall_chain(text)) == ["0", "1", "4"]


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
    assert ("assign stage_outputs_ready_0 = skid0_ready;" in texts) is buffered
    # Memories and streams are ready by registers too.
    top = next(path for path in design.verilog_files if path.stem == design.name).read_text()
    readers = re.findall(r"e2hls_ram #\(.*\) ram_(\w+) \($", top, re.M)
    assert all(re.search(rf"e2hls_requests #\(.*\) requests_{name}_r?req \($", top, re.M) for name in readers)
