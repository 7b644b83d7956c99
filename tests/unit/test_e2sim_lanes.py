# SPDX-License-Identifier: Apache-2.0
"""Which lanes become arrays; that they stay the same module is for the tests in Verilator."""

from __future__ import annotations

import pytest
from e2hls.xls_verilog.lanes import roll_lanes


def module(lanes: int, *, tapped: bool = False, added: str = "8'h01") -> str:
    """Registers that each add to a word's byte; with ``tapped`` something else reads a lane's wire."""
    lines = [
        "module m(",
        "  input wire clk,",
        f"  input wire [{8 * lanes - 1}:0] word,",
        "  output wire [7:0] y",
        ");",
    ]
    for n in range(lanes):
        lines += [f"  reg [7:0] p_{n};", f"  wire [7:0] n{n};"]
        lines.append(f"  assign n{n} = word[{8 * n + 7}:{8 * n}] + {added.format(n=n)};")
    lines.append(f"  assign y = {'n3' if tapped else 'p_3'};")
    lines += ["  always_ff @ (posedge clk) begin", *(f"    p_{n} <= n{n};" for n in range(lanes)), "  end"]
    return "\n".join([*lines, "endmodule", ""])


def test_like_registers_become_one_array() -> None:
    rolled = roll_lanes(module(8))
    assert "  reg [7:0] lanes0 [0:7];\n" in rolled
    assert "  assign y = lanes0[3];\n" in rolled
    assert "        lanes0_leaf0[5] = word[47:40];\n" in rolled
    assert "p_3" not in rolled
    assert "n3" not in rolled


def test_a_wire_that_something_else_reads_stays() -> None:
    rolled = roll_lanes(module(9, tapped=True))
    assert "  reg [7:0] lanes0 [0:7];\n" in rolled
    assert "  assign y = n3;\n" in rolled
    assert "  assign n3 = word[31:24] + 8'h01;\n" in rolled
    assert "  reg [7:0] p_3;\n" in rolled


@pytest.mark.parametrize("text", [module(7), module(8, added="8'h0{n}")], ids=["seven", "unlike"])
def test_too_few_or_unlike_lanes_are_left_alone(text) -> None:
    assert roll_lanes(text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    p_7 <= n7;", "    p_7[0] <= n7[0];"),
        ("    p_7 <= n7;", "    p_7 <= n7;\n    p_7[0] <= n6[0];"),
        ("    p_7 <= n7;", "    if (word[0]) begin\n      p_7 <= n7;\n    end"),
        ("    p_0 <= n0;", "    if (word[0]) begin\n      p_0 <= n0;\n    end"),
        ("input wire clk,", "input wire clk,\n  input wire lane,"),
    ],
    ids=["some bits", "twice", "under a condition", "before the others", "a name of the loops"],
)
def test_what_only_looks_alike_is_left_alone(before, after) -> None:
    text = module(8).replace(before, after)
    assert text != module(8)
    assert roll_lanes(text) == text


@pytest.mark.parametrize(("count", "known"), [(8, True), (4, False)])
def test_a_sign_is_extended_to_the_whole_width_or_not_at_all(count, known) -> None:
    text = module(8)
    for n in range(8):
        text = text.replace(f"  reg [7:0] p_{n};", f"  reg [15:0] p_{n};\n  reg [7:0] x_{n};")
        text = text.replace(f"  wire [7:0] n{n};", f"  wire [15:0] n{n};")
        text = text.replace(f"word[{8 * n + 7}:{8 * n}] + 8'h01", f"{{{{{count}{{x_{n}[7]}}}}, x_{n}}}")
        text = text.replace(f"    p_{n} <= n{n};", f"    p_{n} <= n{n};\n    x_{n} <= word[7:0];")
    assert ("= $signed(" in roll_lanes(text)) == known


def test_a_narrower_wire_cuts_what_a_register_takes() -> None:
    text = module(8)
    for n in range(8):
        text = text.replace(f"  wire [7:0] n{n};", f"  wire [3:0] n{n};")
        text = text.replace(
            f"word[{8 * n + 7}:{8 * n}] + 8'h01", f"word[0] ? word[{8 * n + 7}:{8 * n}] : p_{n}"
        )
    assert "    reg [3:0] step0;\n" in roll_lanes(text)
