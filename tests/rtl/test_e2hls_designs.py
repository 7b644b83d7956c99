# SPDX-License-Identifier: Apache-2.0
"""Designs written by hand, in Verilator, against results worked out here."""

from __future__ import annotations

import random
from pathlib import Path

import e2hls
import pytest
from designs import accumulate, buffered, pingpong
from e2hls.base.rtl_design import PortReport, RtlDesign, RtlOptions, RtlReport
from e2hls.pipeline import generate
from e2hls.simulation.harness import build_simulation, random_words

PAUSES = (0.0, 0.5)


def signed(word: int) -> int:
    return word - (word >> 15 << 16)


def squares(words: list[int]) -> list[int]:
    return [sum(signed(w) ** 2 for w in words[i : i + 4]) % 2**32 for i in range(0, len(words), 4)]


def reversed_by_8(words: list[int]) -> list[int]:
    return [word for i in range(0, len(words), 8) for word in reversed(words[i : i + 8])]


@pytest.mark.parametrize(
    ("make", "model", "most_cycles"),
    [(accumulate, squares, 340), (buffered, reversed_by_8, 600), (pingpong, reversed_by_8, 330)],
    ids=["accumulate", "buffered", "pingpong"],
)
def test_equals_its_model(make, model, most_cycles: int, tmp_path: Path) -> None:
    design = generate(make(), RtlOptions(), tmp_path / "rtl")
    simulation = build_simulation(design, tmp_path / "sim")
    rng = random.Random(make.__name__)
    words = random_words(rng, 256, 16)
    want = model(words)
    for seed, (idle, stall) in enumerate((i, s) for i in PAUSES for s in PAUSES):
        got, cycles = simulation.run({"x": words}, {"y": len(want)}, seed=seed, idle=idle, stall=stall)
        assert got["y"] == want
        assert idle or stall or cycles <= most_cycles


TABLE = [3, 1, 4, 1]
# Reads at each address that arrives; the write port is busy for as long as the reset lasts.
TABLE_TOP = """
module table_reader (
  input  logic clk, rst_n, at_tvalid, word_tready,
  output logic at_tready, word_tvalid,
  input  logic [1:0] at_tdata,
  output logic [7:0] word_tdata
);
  e2hls_ram #(
    .Width(8), .Depth(4), .AddrBits(2), .HasInit(1), .Init({8'd1, 8'd4, 8'd1, 8'd3})
  ) ram (
    .clk_i(clk), .rst_ni(rst_n),
    .write_i(!rst_n), .write_addr_i(2'd2), .write_data_i(8'hee),
    .read_valid_i(at_tvalid && rst_n), .read_ready_o(at_tready), .read_addr_i(at_tdata),
    .data_valid_o(word_tvalid), .data_ready_i(word_tready), .data_o(word_tdata)
  );
endmodule
"""


def test_a_write_in_reset_leaves_initial_values_alone(tmp_path: Path) -> None:
    top = tmp_path / "table_reader.sv"
    top.write_text(TABLE_TOP)
    ports = (
        PortReport(name="at", data_bits=2, axis=False, output=False),
        PortReport(name="word", data_bits=8, axis=False, output=True),
    )
    ram = Path(e2hls.__file__).parent / "rtl" / "e2hls_ram.sv"
    report = RtlReport(ports=ports, processes=(), rams=())
    simulation = build_simulation(RtlDesign(top.stem, tmp_path, (ram, top), (), report), tmp_path / "sim")
    got, _ = simulation.run({"at": [0, 1, 2, 3]}, {"word": 4})
    assert got["word"] == TABLE
