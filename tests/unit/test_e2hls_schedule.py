# SPDX-License-Identifier: Apache-2.0
"""What the schedule knows of an FPGA: periods, the registers of DSP slices and block RAMs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from e2hls.backend.codegen import ThroughputError, _shortest
from e2hls.backend.foreign import Foreign, define_products
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlDesign, RtlOptions
from e2hls.pipeline import generate, lower

KERNEL = """
#include <ap_int.h>
#include <hls_stream.h>
using Word = hls::stream<ap_uint<16>>;
extern "C" void k(Word& x_in, hls::stream<ap_int<48>>& y_out) {
  ap_uint<16> table[256];
  ap_int<48> sum = 0;
fill:
  for (int i = 0; i < 256; ++i) {
    #pragma HLS PIPELINE II=1
    table[i] = x_in.read();
  }
sums:
  for (int i = 0; i < 256; ++i) {
    #pragma HLS PIPELINE II=1
    const ap_uint<8> at = x_in.read();
    const ap_int<16> factor = x_in_FACTOR;
    sum SUM;
    y_out.write(sum);
  }
}
"""
MAC = ("ap_uint<16>(table[at] ^ 0x55)", "+= ap_int<16>(factor) * ap_int<16>(table[at])")
HORNER = ("table[at]", "= ap_int<18>(sum) * factor + i")


def built(tmp_path: Path, factor: str, summed: str, options: RtlOptions) -> RtlDesign:
    source = tmp_path / "k.cpp"
    source.write_text(KERNEL.replace("x_in_FACTOR", factor).replace("SUM", summed))
    return generate(lower(Kernel("k", source)), options, tmp_path / "rtl")


def registers_of_products(design: RtlDesign) -> list[tuple[list[str], str]]:
    """Operands and result of each product."""
    (text,) = (path.read_text() for path in design.verilog_files if path.stem == "k_core")
    return [
        ([match[2], match[3]], match[1])
        for match in re.finditer(r"assign (\w+) = [su]mul\w+\((\S+), (\S+)\);", text)
    ]


@pytest.mark.parametrize("family", ["xc7", "xcup"])
def test_factors_and_product_of_a_dsp_slice_are_in_registers(tmp_path: Path, family: str) -> None:
    design = built(tmp_path, *MAC, RtlOptions(period_ns=10.0, family=family))
    ((operands, product),) = registers_of_products(design)
    assert all(re.match(r"p\d+_", operand) for operand in operands)
    (text,) = (path.read_text() for path in design.verilog_files if path.stem == "k_core")
    assert re.search(rf"p\d+_{product} <= {product};", text)
    # Nothing but a register takes the block RAM's word.
    assert re.findall(r"(\S+) <= table_data;", text)
    uses = re.findall(r"\btable_(?:data|rresp_tdata)\b", text.split("endfunction")[-1])
    assert len(uses) == 4  # port, wire, its assignment, and the register behind
    (process,) = design.report.processes
    assert process.period_ps == int(10_000 * {"xc7": 0.215, "xcup": 0.41}[family])


def test_a_product_in_a_recurrence_keeps_its_throughput_at_a_longer_period(tmp_path: Path) -> None:
    (process,) = built(tmp_path, *HORNER, RtlOptions(period_ns=5.0)).report.processes
    assert (process.ii, process.multipliers) == (1, 1)
    assert process.period_ps > 5000 * 0.215


@pytest.mark.parametrize("shortest_ps", [1001, 1250, 1300, 9000])
def test_a_relaxed_period_is_within_three_per_cent_of_the_shortest(shortest_ps: int) -> None:
    tried: list[int] = []

    def attempt(period_ps: int) -> None:
        tried.append(period_ps)
        if period_ps < shortest_ps:
            raise ThroughputError("too fast")

    found = _shortest(attempt, 1000)
    assert shortest_ps <= found <= 1.03 * shortest_ps + 1
    assert found in tried
    assert len(tried) <= 14


def test_what_no_period_helps_is_an_error() -> None:
    def attempt(period_ps: int) -> None:
        raise ThroughputError(f"not at {period_ps}")

    with pytest.raises(ThroughputError, match=r"^not at 18175$"):
        _shortest(attempt, 1000)


def test_the_family_must_be_known() -> None:
    with pytest.raises(ValueError, match=r"^family must be one of xc7, xcup, not 'ice40'$"):
        RtlOptions(family="ice40")


@pytest.mark.parametrize(
    ("op", "left", "right", "fits"),
    [
        ("smul", 18, 25, True),
        ("smul", 25, 18, True),
        ("smul", 19, 25, False),
        ("umul", 17, 24, True),
        ("umul", 18, 24, False),
        ("umul", 17, 25, False),
    ],
)
def test_a_dsp_slice_multiplies_25_by_18_bits(op: str, left: int, right: int, fits: bool) -> None:
    assert (Foreign.product(op, left + right, left, right) is not None) is fits


def test_each_called_product_is_defined_once() -> None:
    calls = "".join(f"  assign {name} = umul8b_4b_x_4b({name}_1, {name}_2);\n" for name in "ab")
    module = f"module m(\n  input wire clk\n);\n{calls}"
    defined = define_products(module)
    assert (
        defined.count("function automatic [7:0] umul8b_4b_x_4b (input reg [3:0] lhs, input reg [3:0] rhs);")
        == 1
    )
    assert define_products(defined) == defined
    bit = "  function automatic smul1b_1b_x_1b (input reg lhs, input reg rhs);\n"  # as XLS writes one bit
    module = f"module m(\n  input wire clk\n);\n{bit}  assign a = smul1b_1b_x_1b(b, c);\n"
    assert define_products(module) == module
