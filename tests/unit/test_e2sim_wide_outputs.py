# SPDX-License-Identifier: Apache-2.0
"""Packing wide outputs only while they are valid."""

from __future__ import annotations

from e2hls.xls_verilog.wide_outputs import pack_when_valid

MODULE = """\
module m(
  output wire [299:0] wide_tdata,
  output wire wide_tvalid,
  output wire [63:0] y_tdata
);
  wire [299:0] n1;
  wire [63:0] n2;
  assign n1 = {p0_a, p0_b};
  assign n2 = {p0_a, p0_b};
  assign wide_tdata = n1;
  assign y_tdata = n2;
endmodule
"""


def test_a_wide_word_is_packed_while_valid() -> None:
    assert pack_when_valid(MODULE) == (
        "module m(\n"
        "  output reg [299:0] wide_tdata,\n"
        "  output wire wide_tvalid,\n"
        "  output wire [63:0] y_tdata\n"
        ");\n"
        "  wire [63:0] n2;\n"
        "  assign n2 = {p0_a, p0_b};\n"
        "  always @ (*) begin\n"
        "    wide_tdata = 300'bx;\n"
        "    if (wide_tvalid) wide_tdata = {p0_a, p0_b};\n"
        "  end\n"
        "  assign y_tdata = n2;\n"
        "endmodule\n"
    )


def test_a_word_that_something_else_reads_stays() -> None:
    read_twice = MODULE.replace("endmodule", "  assign n3 = n1[0];\nendmodule")
    assert pack_when_valid(read_twice) == read_twice


def test_a_word_that_is_no_concatenation_stays() -> None:
    chosen = MODULE.replace("assign n1 = {p0_a, p0_b}", "assign n1 = first ? {p0_a, p0_b} : n7")
    assert pack_when_valid(chosen) == chosen
