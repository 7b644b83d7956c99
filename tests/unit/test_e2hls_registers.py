# SPDX-License-Identifier: Apache-2.0
"""Splitting XLS's register blocks by enable."""

from __future__ import annotations

from importlib import metadata

from e2hls.xls_verilog import XLS_VERSION
from e2hls.xls_verilog.registers import split_registers

WITHOUT_RESET = """\
  always @ (posedge clk) begin
    p0_a <= en ? a : p0_a;
    p0_b <= en ? b : p0_b;
    p1_a <= go ? p0_a : p1_a;
    seen <= a;
    swapped <= en ? swapped : b;
  end
"""
WITH_RESET = """\
  always_ff @ (posedge clk) begin
    if (!rst_n) begin
      pc <= 2'h0;
      count <= 8'h01;
      valid <= 1'h0;
    end else begin
      pc <= and_1 ? next_pc : pc;
      count <= and_1 ? n7 : count;
      valid <= n8;
    end
  end
"""


def test_registers_with_one_enable_share_a_block() -> None:
    assert split_registers(WITHOUT_RESET) == (
        "  always @ (posedge clk) begin\n"
        "    if (en) begin\n      p0_a <= a;\n      p0_b <= b;\n    end\n"
        "  end\n"
        "  always @ (posedge clk) begin\n    if (go) begin\n      p1_a <= p0_a;\n    end\n  end\n"
        "  always @ (posedge clk) begin\n    seen <= a;\n    swapped <= en ? swapped : b;\n  end\n"
    )


def test_every_register_keeps_its_reset() -> None:
    assert split_registers(WITH_RESET) == (
        "  always_ff @ (posedge clk) begin\n"
        "    if (!rst_n) begin\n      pc <= 2'h0;\n      count <= 8'h01;\n    end else begin\n"
        "      if (and_1) begin\n        pc <= next_pc;\n        count <= n7;\n      end\n    end\n"
        "  end\n"
        "  always_ff @ (posedge clk) begin\n"
        "    if (!rst_n) begin\n      valid <= 1'h0;\n    end else begin\n      valid <= n8;\n    end\n"
        "  end\n"
    )


def test_what_it_does_not_know_stays() -> None:
    other = "  always_ff @ (posedge clk) begin\n    if (x) y <= z;\n  end\n"
    assert split_registers(f"module m;\n{other}endmodule\n") == f"module m;\n{other}endmodule\n"


def test_the_rewrites_are_made_for_the_version_that_is_required() -> None:
    assert f'xls-python=={XLS_VERSION}; extra == "sim"' in metadata.requires("e2train")
