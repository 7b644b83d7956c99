# SPDX-License-Identifier: Apache-2.0
"""``e2train verify`` on the engine: right as it is, and caught when a fault is planted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import e2hls
import pytest
from e2sim.verify import Verilator
from e2train.cli.app import app
from typer.testing import CliRunner

MODES = ("forward", "grad_input", "grad_weight", "grad_msb", "affine", "reduce")
PAUSES = ("never", "sometimes", "always")


def verify(*arguments: str) -> tuple[int, list[dict[str, object]]]:
    done = CliRunner().invoke(app, ["verify", "--json", *arguments])
    return done.exit_code, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def only(monkeypatch: pytest.MonkeyPatch, tests: str) -> None:
    """Run some of a bench's tests: those whose names a regular expression finds."""
    run = Verilator.test
    monkeypatch.setattr(
        Verilator, "test", lambda self, **options: run(self, **options | {"test_filter": tests})
    )


@pytest.mark.parametrize(
    "some", ["the same few pauses at both ends", pytest.param("", id="all pauses", marks=pytest.mark.slow)]
)
def test_engine_passes_in_all_modes_and_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: str
) -> None:
    if some:
        only(monkeypatch, r"idle=(never|sometimes)/stall=\1$|^((?!idle=).)*$")
    code, rows = verify("--out", str(tmp_path))
    assert code == 0
    assert all(row["passed"] and row["cycles"] for row in rows)
    tests = [str(row["test"]) for row in rows]
    for mode in MODES:
        assert any(f"reset_in_mid_frame_brings_the_engine_back/mode={mode}" in test for test in tests), mode
        for idle in PAUSES[:2] if some else PAUSES:
            for stall in (idle,) if some else PAUSES:
                wanted = (f"mode={mode}", f"idle={idle}", f"stall={stall}")
                assert any(all(part in test for part in wanted) for test in tests), wanted


@pytest.mark.slow
def test_planted_fault_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = e2hls.build_rtl

    def wrong(*arguments: object, **options: object) -> e2hls.RtlDesign:
        design = right(*arguments, **options)  # type: ignore[arg-type]
        files = [Path(shutil.copy(file, tmp_path)) for file in design.sv_files]
        for file in files:
            text = file.read_text()
            product = "signed_lhs * signed_rhs;"
            if file.name == "engine_compute.sv":
                assert product in text
                file.write_text(text.replace(product, "signed_lhs * signed_rhs + 1;"))
        return replace(design, sv_files=tuple(files))

    monkeypatch.setattr(e2hls, "build_rtl", wrong)
    only(monkeypatch, "mode_equals_spec.*idle=never")
    code, rows = verify("--out", str(tmp_path / "out"), "--no-waves")
    assert code == 1
    failed = [row for row in rows if not row["passed"]]
    assert any("mode_equals_spec" in str(row["test"]) for row in failed)
    assert all(row["message"] for row in failed)
