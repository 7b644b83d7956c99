# SPDX-License-Identifier: Apache-2.0
"""Two ranks, each with a simulated board of its own, against two emulators."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BOARD = "zcu104"
TORCHRUN = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", "-m", "e2train")
SHORT = ("train", "digits", "--steps", "4", "--batch", "8", "--seed", "7", "--json")
SETTINGS = ("--set", "test_images=4", "--set", "smd=0.3", "--set", "skip=0.4")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("combine", "execution"), [("sum", "offload"), ("vote", "offload"), ("sum", "resident")]
)
def test_two_boards_give_the_bits_of_two_emulators(serve, overlay, tmp_path, combine, execution):
    boards = ",".join(f"pynq:{serve(BOARD).address}" for _ in range(2))
    where = ("--device", boards, "--board", BOARD, "--overlay", str(overlay(BOARD)))
    summaries = []
    for name, options in (("emulators", ()), ("boards", where)):
        command = (
            *SHORT,
            *SETTINGS,
            "--set",
            f"combine={combine}",
            "--set",
            f"execution={execution}",
            "--out",
            str(tmp_path / name),
            *options,
        )
        run = subprocess.run([*TORCHRUN, *command], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        summaries.append(json.loads(run.stdout))
    emulators, on_boards = summaries
    assert emulators["steps_run"] > 1
    for key in ("ranks", "weights_sha256", "state_sha256", "macs", "blocks_run"):
        assert emulators[key] == on_boards[key], key
    assert on_boards["remote_calls_per_step"] > 0
