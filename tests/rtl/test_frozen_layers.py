# SPDX-License-Identifier: Apache-2.0
"""Frozen layers have no backward work on the simulated hardware: neither rows of the ledger nor cycles."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2train.train import PRESETS, read_run, run_training

CONFIG = PRESETS["digits"].changed(device="rtl", method="smb-int8", steps=1, batch=4, test_images=4, seed=3)
FROZEN = ("stem.", "blocks.0.", "blocks.1.")
BACKWARD = ("grad_input", "grad_weight", "reduce")
Cycles = dict[tuple[str, str], int]  # of training, by layer and mode


def spared(name: str, mode: str) -> bool:
    """Whether freezing does away with it: the first block that trains needs no input gradient either."""
    return mode in BACKWARD and (
        name.startswith(FROZEN) or (name, mode) == ("blocks.2.branch.0", "grad_input")
    )


@pytest.fixture(params=["offload", "resident"])
def cycles(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Cycles, Cycles]:
    """Of one step that trains everything, and of one with frozen layers."""
    found = []
    for freeze in ("", "stem,blocks.0-1"):
        out = tmp_path / f"frozen {freeze}"
        run_training(CONFIG.changed(execution=request.param, freeze=freeze), out=out)
        rows = read_run(out).ledger.training
        found.append({(row.name, row.mode): row.counters.cycles for row in rows if row.counters.cycles})
    return found[0], found[1]


def test_frozen_layers_take_no_cycles_backward(cycles: tuple[Cycles, Cycles]) -> None:
    whole, frozen = cycles
    assert whole.keys() - frozen.keys() == {key for key in whole if spared(*key)}
    assert not frozen.keys() - whole.keys()
    resident = ("stem.0", "affine") in whole
    for key, count in frozen.items():  # resident: no statistics, and no affine operations backward
        assert count <= whole[key] if resident else count == whole[key], key
    assert sum(frozen.values()) < 0.6 * sum(whole.values())
