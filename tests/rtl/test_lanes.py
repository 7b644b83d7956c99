# SPDX-License-Identifier: Apache-2.0
"""Lanes as arrays and loops: the module that they replace, in every cycle."""

from __future__ import annotations

import pytest
from e2hls.xls_verilog.lanes import roll_lanes
from e2train.config import load_config
from e2train.devices.build import engine_rtl
from lockstep import DifferError, run_in_lockstep

LANES = 16


@pytest.fixture
def seed(rng) -> int:
    return int(rng.integers(1, 2**31))


def matrix() -> str:
    """LANES sums over bits of a word and an operand that two lanes share, held and reset."""
    lanes = range(LANES)
    declared = [f"  reg [4:0] p_{n};\n  reg [15:0] sum_{n};\n  wire [15:0] wide_{n};" for n in lanes]
    declared += [f"  wire [4:0] n{n};\n  wire [15:0] added_{n};\n  wire [15:0] next_{n};" for n in lanes]
    declared += [f"  reg [7:0] row_{n};\n  wire [7:0] turned_{n};" for n in range(8)]
    assigns = [f"  assign n{n} = word_tdata[{5 * n + 4}:{5 * n}] ^ p0_mask;" for n in lanes]
    assigns += [f"  assign wide_{n} = {{{{11{{p_{n}[4]}}}}, p_{n}}};" for n in lanes]
    assigns += [
        f"  assign added_{n} = (p0_first ? 16'h0000 : sum_{n}) + (wide_{n} ^ {{8'h00, row_{n // 2}}});"
        for n in lanes
    ]
    assigns += [f"  assign next_{n} = p0_run ? added_{n} : sum_{n};" for n in lanes]
    assigns += [f"  assign turned_{n} = row_{(n + 3) % 8}[7:0] + word_tdata[{n + 7}:{n}];" for n in range(8)]
    packed = ", ".join(f"sum_{n}" for n in reversed(lanes))
    lines = [
        "module matrix(",
        "  input wire clk,",
        "  input wire rst_n,",
        f"  input wire [{5 * LANES - 1}:0] word_tdata,",
        "  input wire first,",
        "  input wire run,",
        f"  output wire [{16 * LANES - 1}:0] sums_tdata,",
        "  output wire sums_tvalid",
        ");",
        "  reg p0_first;",
        "  reg p0_run;",
        "  reg [4:0] p0_mask;",
        *declared,
        *assigns,
        f"  assign sums_tdata = {{{packed}}};",
        "  assign sums_tvalid = p0_run;",
        "  always_ff @ (posedge clk) begin",
        "    p0_first <= first;",
        "    p0_run <= run;",
        "    p0_mask <= word_tdata[6:2];",
        *(f"    p_{n} <= n{n};" for n in lanes),
        "  end",
        "  always_ff @ (posedge clk) begin",
        "    if (!rst_n) begin",
        *(f"      sum_{n} <= 16'h0007;" for n in reversed(lanes)),
        *(f"      row_{n} <= 8'h0c;" for n in range(8)),
        "    end else begin",
        "      if (first | run) begin",
        *(f"        row_{n} <= turned_{n};" for n in range(8)),
        *(f"        sum_{n} <= next_{n};" for n in reversed(lanes)),
        "      end",
        "    end",
        "  end",
        "endmodule",
        "",
    ]
    return "\n".join(lines)


def test_rolled_lanes_are_the_same_module(tmp_path, seed):
    original = matrix()
    rolled = roll_lanes(original)
    assert len(rolled) < 0.6 * len(original)
    events = run_in_lockstep(original, rolled, tmp_path, count="sums_tvalid", cycles=20_000, seed=seed)
    assert events > 2000


def test_a_lane_that_reads_another_row_is_found(tmp_path, seed):
    original = matrix()
    wrong = original.replace("{8'h00, row_3}", "{8'h00, row_2}", 1)
    assert wrong != original
    with pytest.raises(DifferError, match=f"seed {seed}: differ in cycle"):
        run_in_lockstep(original, roll_lanes(wrong), tmp_path, count="sums_tvalid", cycles=2000, seed=seed)


@pytest.mark.parametrize(
    ("process", "output", "share", "cycles"),
    [
        pytest.param("compute", "bundles_tvalid", 0.6, 100_000, marks=pytest.mark.slow),
        ("collect", "quads_tvalid", 0.65, 300_000),
        ("store", "results_tvalid", 0.95, 100_000),
    ],
)
def test_the_rolled_engine_is_the_engine(tmp_path, seed, process, output, share, cycles):
    design = engine_rtl(load_config("pynq_z2"))
    (path,) = (path for path in design.sv_files if path.name == f"engine_{process}.sv")
    original = path.read_text()
    rolled = roll_lanes(original)
    assert len(rolled) < share * len(original)
    assert run_in_lockstep(original, rolled, tmp_path, count=output, cycles=cycles, seed=seed) > 1000
