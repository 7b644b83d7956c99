# SPDX-License-Identifier: Apache-2.0
"""Kernels as RTL in Verilator against the same C++ compiled for this machine, under random stalls."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from checked_flow import lower
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlOptions
from e2hls.native import build_native
from e2hls.pipeline import generate
from e2hls.simulation.harness import build_simulation, from_words, random_words, to_words

KERNELS = Path(__file__).parent / "kernels"
PAUSES = ((0.0, 0.0), (0.0, 0.6), (0.6, 0.0), (0.5, 0.5))

# kernel: words per input, regions of all processes, multipliers, most cycles without pauses
CASES = {
    "banks": (64 * 4, 3, 0, 360),
    "beats": (60, 6, 0, 130),
    "fir": (200, 1, 0, 220),
    "histogram": (64 * 3, 4, 0, 310),
    "intervals": (64 * 3, 13, 1, 1200),
    "links": (64 * 3, 3, 0, 510),
    "matmul": (128 * 3, 4, 1, 2000),
    "parts": (24 * 3, 13, 0, 2500),
    "polls": (30, 19, 0, 400),
    "pingpong": (16 * 12, 7, 0, 500),
    "places": (64 * 3, 23, 0, 3100),
    "ports": (104 * 6, 5, 0, 1100),
    "sides": (100, 2, 0, 240),
    "references": (100, 8, 0, 900),
    "repeats": (32 * 4, 2, 1, 150),
    "sums": (64 * 3, 3, 0, 260),
    "vadd": (200, 1, 0, 220),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=pytest.mark.slow if path.stem == "polls" else ())
        for path in sorted(KERNELS.glob("*.cpp"))
    ],
)
def test_rtl_equals_native(name: str, tmp_path: Path) -> None:
    words, regions, multipliers, most_cycles = CASES[name]
    kernel = Kernel(name, KERNELS / f"{name}.cpp")
    design = generate(lower(kernel), RtlOptions(), tmp_path / "rtl")
    assert sum(len(process.regions) for process in design.report.processes) == regions
    assert design.report.multipliers == multipliers
    ports = {port.name: port for port in design.report.ports}
    rng = random.Random(name)
    inputs = {p.name: random_words(rng, words, p.word_bits) for p in ports.values() if not p.output}
    native = build_native(kernel).run({n: to_words(values, ports[n]) for n, values in inputs.items()})
    want = {n: from_words(values, ports[n]) for n, values in native.items()}
    counts = {n: len(values) for n, values in want.items()}
    simulation = build_simulation(design, tmp_path / "sim")
    for seed, (idle, stall) in enumerate(PAUSES):
        got, cycles = simulation.run(inputs, counts, seed=seed, idle=idle, stall=stall)
        assert got == want
        assert idle or stall or cycles <= most_cycles
