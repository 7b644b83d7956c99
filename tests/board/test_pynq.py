# SPDX-License-Identifier: Apache-2.0
"""The real pynq client on a simulated ZCU104: self-tests, training to the same bits, few remote calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from e2sim.board.peripherals import PowerModel
from e2train.devices import MODES, open_device
from e2train.overlay import read_overlay
from e2train.runtime import execute
from e2train.runtime.board_check import mode_call
from e2train.train import PRESETS, run_training
from serving import E2TRAIN

BOARD = "zcu104"
TRAIN = ("train", "digits", "--steps", "4", "--batch", "8", "--seed", "7", "--json")
FEW = ("--set", "test_images=8", "--set", "execution=offload")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*E2TRAIN, *command], capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def archive(overlay):
    return overlay(BOARD)


def test_board_check_passes(serve, archive):
    board = serve(BOARD)
    done = run(
        *("board", "check", "--device", f"pynq:{board.address}", "--board", BOARD),
        *("--overlay", str(archive), "--json", "--model", "digits"),
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["name"] for row in rows] == [
        "identification",
        "clock",
        *MODES,
        "latency",
        "bandwidth",
        "step of digits",
    ]
    assert all(row["passed"] for row in rows)
    assert re.fullmatch(r"\S+ s planned: [\d,]+ cycles, \d+ calls, \S+ MB", rows[-1]["found"])


def test_board_info_names_the_sensor(serve, archive):
    board = serve(BOARD)
    done = run(
        *("board", "info", "--device", f"pynq:{board.address}", "--board", BOARD),
        *("--overlay", str(archive), "--json"),
    )
    info = json.loads(done.stdout)
    assert (info["board"], info["configuration"], info["simulated"]) == ("ZCU104", BOARD, True)
    assert info["sensors"] == ["simulated_ina226_u183"]
    assert abs(info["clock_mhz"] - 187.5) < 0.1


@pytest.mark.timeout(900)
def test_training_gives_the_emulators_bits(serve, archive, tmp_path):
    board = serve(BOARD)
    where = ("--device", f"pynq:{board.address}", "--board", BOARD, "--overlay", str(archive))
    got = json.loads(run(*TRAIN, *FEW, "--out", str(tmp_path / "pynq"), *where).stdout)
    config = PRESETS["digits"].changed(
        execution="offload", board=BOARD, steps=4, batch=8, seed=7, test_images=8
    )
    want = run_training(config, out=tmp_path / "emulator")
    assert want.steps_run > 1
    assert (got["weights_sha256"], got["state_sha256"]) == (want.weights_sha256, want.state_sha256)
    assert got["remote_calls_per_step"] > 0
    assert 0 < got["moving_share"] < 1
    assert "remote calls" in (tmp_path / "pynq" / "report.html").read_text()
    assert got["energy_measured_j"] is None
    assert got["energy_source"] == "simulated by simulated_ina226_u183"
    mean_w = got["energy_simulated_j"] / got["energy_duration_s"]
    assert PowerModel().idle_w < mean_w < PowerModel().working_w
    assert got["energy_idle_power_w"] == pytest.approx(PowerModel().idle_w, abs=0.01)
    assert got["energy_per_image_j"] == got["energy_simulated_j"] / (8 * got["steps_run"])
    assert (got["energy_phases_j"] is None) != (got["energy_phases_reason"] is None)
    assert (got["energy_host_j"] is None) != (got["energy_host_reason"] is None)
    assert "simulated power, W" in (tmp_path / "pynq" / "report.html").read_text()
    assert want.energy_simulated_j is None
    assert want.energy_reason
    assert want.energy_modelled_j == got["energy_modelled_j"]


def test_pynqs_own_self_test_passes(serve, archive, tmp_path):
    """All of it; with an overlay it also programs the board and reads a register back."""
    board = serve(BOARD)
    bit = read_overlay(archive).unpack(tmp_path)
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("pynq-remote-selftest"), "--ip", "127.0.0.1"),
            *("--port", str(board.port), "--bitstream", bit),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYNQ_REMOTE_DEVICES": "127.0.0.1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed, 0 skipped" in done.stdout
    assert "11 passed" in done.stdout


def test_a_call_takes_few_remote_calls(archive):
    """Counted by the server, and as the driver counts them; polls apart."""
    from e2sim.board import BoardServer
    from e2train.config import load_config
    from e2train.devices.pynq_engines import start_calls
    from e2train.devices.simulated_board import board_model, build_logic
    from e2train.overlay import load_board

    rng = np.random.default_rng(1)
    calls = [mode_call(mode, rng) for mode in MODES]
    with BoardServer(board_model(load_board(BOARD)), build_logic, port=0) as server:
        device = open_device(f"pynq:127.0.0.1:{server.port}", config=BOARD, overlay=archive)
        with device:
            for call in calls:  # makes the buffers
                execute(call, device)
            for call in calls:
                before = server.calls.copy()
                counters = execute(call, device).counters
                made = server.calls - before
                for name in ("existsfile", "readfile", "writefile"):  # of the lock, in a thread of its own
                    del made[name]
                assert counters.remote_calls == made.total()
                polls = made["read"] - 1  # and the reply itself
                assert polls >= 1
                assert made.total() - polls == 4 + start_calls(load_config(BOARD).engines)
