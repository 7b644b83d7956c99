# SPDX-License-Identifier: Apache-2.0
"""Designs written by hand, in Verilator, against results worked out here."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from e2hls.backend import generate
from e2hls.rtl_design import RtlOptions

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from stream_harness import build_simulation, random_words
from test_e2hls_backend import accumulate, buffered, pingpong

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
