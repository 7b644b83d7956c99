# SPDX-License-Identifier: Apache-2.0
"""The notebooks of the documentation run, from their first cell to their last; the cells check themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_notebooks import NOTEBOOKS, run

ROOT = Path(__file__).parents[2]

QUICK = ("offload_your_model",)
SLOW = ("change_the_kernel", "compare_energy", "train_on_a_simulated_board")


@pytest.mark.parametrize(
    "name",
    [*QUICK, *(pytest.param(name, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]) for name in SLOW)],
)
def test_notebook_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(str(ROOT / folder) for folder in ("host", "hls", "sim")))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = run(NOTEBOOKS / f"{name}.ipynb")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any(cell.source.startswith("assert") for cell in cells) or "assert " in cells[-1].source
    assert all("ename" not in output for cell in cells for output in cell.outputs)


def test_every_notebook_is_tested() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted([*QUICK, *SLOW])
