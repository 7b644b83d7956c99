# SPDX-License-Identifier: Apache-2.0
"""What of the simulation needs no simulator: its figures, its tools, its errors, its report."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2hls.simulation.toolchain import first_error
from e2sim import MemoryTiming, SimulationError, Toolchain, TransferStats
from e2sim.verify import VerifyReport, VerifyRow


def row(*, passed: bool) -> VerifyRow:
    return VerifyRow(kernel="k", test="t", passed=passed, cases=1, cycles=1, seconds=0.1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("burst_beats", 0, r"^burst_beats must be in 1\.\.256, not 0$"),
        ("outstanding", 17, r"^outstanding must be in 1\.\.16, not 17$"),
        ("bytes_per_cycle", 0, r"^bytes_per_cycle must be in 1\.\.64, not 0$"),
        ("read_latency", -1, r"^latencies must be at least 0 cycles, not -1, 16$"),
    ],
)
def test_timing_refuses_nonsense(field: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoryTiming(**{field: value})


def test_cycles_include_first_and_last() -> None:
    stats = TransferStats(first_in=10, last_in=12, words_in=3, first_out=11, last_out=13, words_out=3)
    assert stats.cycles == 4


@pytest.mark.parametrize("tool", ["make", "g++"])
def test_missing_tool_is_named(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for present in {"make", "g++"} - {tool}:
        (tmp_path / present).write_text("")
        (tmp_path / present).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulationError) as caught:
        Toolchain.find()
    want = f"no {tool} on PATH: simulation compiles C++, install it (apt install build-essential)"
    assert str(caught.value) == want


def test_logs_are_summed_up_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert first_error(log) == "no output"
    log.write_text("start\nmore\n\n")
    assert first_error(log) == "more"
    log.write_text("start\n%Error: a.sv:3: syntax\n  more\n\n")
    assert first_error(log) == "%Error: a.sv:3: syntax"


def test_no_rows_are_no_success() -> None:
    assert not VerifyReport(rows=(), seed=1).passed
    assert VerifyReport(rows=(row(passed=True),), seed=1).passed
    assert not VerifyReport(rows=(row(passed=True), row(passed=False)), seed=1).passed
