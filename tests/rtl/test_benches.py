# SPDX-License-Identifier: Apache-2.0
"""The common base of all benches, on the stand-in kernel: what passes, fails, and is kept."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from e2sim import SimulationError
from e2sim.verify import VerifyReport, VerifyTarget, run
from test_soc import StandIn

HERE = Path(__file__).parent
TARGET = VerifyTarget(design=StandIn(), bench="stand_in_bench", bench_dir=HERE)


def with_fault(folder: Path, old: str, new: str) -> VerifyTarget:
    source = StandIn().sv_files[0].read_text()
    assert source.count(old) == 1
    patched = folder / "stand_in.sv"
    patched.write_text(source.replace(old, new))
    return replace(TARGET, design=StandIn(sv_files=(patched,)))


def failed(report: VerifyReport) -> list[str]:
    return [row.test for row in report.rows if not row.passed]


def test_all_pause_combinations_pass(tmp_path: Path) -> None:
    report = run([TARGET], seed=5, out=tmp_path)
    assert report.passed
    assert len(report.rows) == 10
    assert {row.cases for row in report.rows} == {1, 3}
    assert all(row.cycles > 50 for row in report.rows)
    log = (tmp_path / "stand_in" / "simulation.log").read_text()
    assert "WARNING" not in log


def test_same_seed_gives_the_same_cycles(tmp_path: Path) -> None:
    first, again, other = (
        [row.cycles for row in run([TARGET], seed=seed, out=tmp_path).rows] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_wrong_word_fails_and_is_kept(tmp_path: Path) -> None:
    report = run(
        [with_fault(tmp_path, "s_axis_tdata + 64'd1", "s_axis_tdata | 64'd1")], waves=True, out=tmp_path
    )
    assert not report.passed
    row = next(row for row in report.rows if not row.passed)
    assert re.search(
        r"reply \d of 3: \d+ of \d+ words differ, first at \d+: got 0x\w+, want 0x\w+; kept in ", row.message
    )
    kept = np.load(row.message.split("kept in ")[1])
    assert (kept["want"] == kept["sent"] + 1).all()
    assert (kept["got"] != kept["want"]).any()
    assert [path.stat().st_size > 1000 for path in report.waves] == [True]


def test_lost_word_under_pressure_fails(tmp_path: Path) -> None:
    report = run([with_fault(tmp_path, "(!m_axis_tvalid || m_axis_tready)", "1'b1")], out=tmp_path)
    assert all("stall=never" not in test for test in failed(report))
    assert any("stall=always" in test for test in failed(report))


def test_hang_fails_at_its_deadline(tmp_path: Path) -> None:
    report = run(
        [with_fault(tmp_path, "s_axis_tlast && s_axis", "s_axis_tlast && 1'b0 && s_axis")], out=tmp_path
    )
    messages = [row.message for row in report.rows]
    assert len(failed(report)) == len(report.rows)
    assert "reply 1 of 3 is not there within 2000 cycles" in messages[0]


def test_zero_tests_are_a_failure(tmp_path: Path) -> None:
    report = run([replace(TARGET, bench="no_bench")], out=tmp_path)
    assert not report.passed
    assert "no_bench ran no test to its end" in report.rows[0].message
    assert not VerifyReport(rows=(), seed=1).passed


def test_failed_assertion_is_a_failure(tmp_path: Path) -> None:
    report = run([with_fault(tmp_path, "!(accept && s_axis_tdata == 64'hBAD)", "!accept")], out=tmp_path)
    assert not report.passed
    assert "Assertion failed" in report.rows[0].message


def test_broken_rtl_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match=r"^the bench of stand_in does not build: [^\n]+$"):
        run([with_fault(tmp_path, "assign accept", "asign accept")], out=tmp_path)


@pytest.mark.slow
def test_a_bench_is_built_in_a_folder_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2TRAIN_CACHE", str(tmp_path / "it's $a b"))
    assert run([TARGET], waves=True, out=tmp_path / "out put").passed
