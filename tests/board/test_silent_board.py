# SPDX-License-Identifier: Apache-2.0
"""A board that is there and says nothing, as a stopped process does: every wait has an end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
from e2train.devices import DeviceError, DeviceLostError, open_device
from e2train.runtime import execute
from e2train.runtime.board_check import mode_call
from e2train.train import PRESETS, run_training
from serving import E2TRAIN

BOARD = "pynq_z2"
DIGITS = PRESETS["digits"].changed(
    execution="offload", method="psg", board=BOARD, meter="none", steps=4, batch=8, seed=7, test_images=4
)


@pytest.fixture
def pause():
    """Stop processes for a while."""
    paused = []

    def stop(process):
        os.kill(process.pid, signal.SIGSTOP)
        paused.append(process)

    yield stop
    for process in paused:
        os.kill(process.pid, signal.SIGCONT)


def test_the_deadline_ends_a_call_a_sensor_and_the_closing(serve, overlay, pause):
    board = serve(BOARD)
    call = mode_call("forward", np.random.default_rng(1))
    device = open_device(f"pynq:{board.address}", config=BOARD, overlay=overlay(BOARD), deadline_s=2.0)
    execute(call, device)
    pause(board.process)
    begin = time.monotonic()
    where = rf"the board at {board.address} no longer answers \(Deadline Exceeded\)"
    with pytest.raises(
        DeviceLostError, match=rf"^self-test \(forward\) on pynq: {where}; not back within 2 s: "
    ):
        execute(call, device)
    assert time.monotonic() - begin < 40  # of which pynq's client takes 5 for each attempt to connect
    device.close()


def test_a_board_that_never_answered_is_told_from_one_that_is_gone(overlay, monkeypatch):
    class SilentError(Exception):
        def code(self):
            return SimpleNamespace(name="DEADLINE_EXCEEDED")

        def details(self):
            return "Deadline Exceeded"

    def device(*arguments):
        raise SilentError

    monkeypatch.setattr("e2train.devices.pynq_board._device", device)
    with pytest.raises(DeviceError) as error:
        open_device("pynq:127.0.0.1:9", config=BOARD, overlay=overlay(BOARD), deadline_s=2.0)
    assert str(error.value) == (
        "the board at 127.0.0.1:9 does not answer (Deadline Exceeded); look at the address and at the board"
    )


def test_the_closing_does_not_wait_for_a_silent_board(serve, overlay, pause):
    board = serve(BOARD)
    device = open_device(f"pynq:{board.address}", config=BOARD, overlay=overlay(BOARD))
    execute(mode_call("forward", np.random.default_rng(1)), device)
    pause(board.process)
    begin = time.monotonic()
    device.close()
    assert time.monotonic() - begin < 20  # of the deadline's 60


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run_training(DIGITS, out=tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize(
    "signal_number",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow),  # the same handler
    ],
)
def test_the_first_signal_ends_the_wait_saves_and_exits_130(
    undisturbed, serve, overlay, pause, tmp_path, signal_number
):
    board, out, archive = serve(BOARD), tmp_path / "cut", overlay(BOARD)
    settings = (
        *("--set", "execution=offload", "--set", "meter=none", "--set", "test_images=4"),
        *("--set", "deadline_s=300"),
    )
    command = [
        *(*E2TRAIN, "train", "digits", "--method", "psg", "--steps", "4", "--batch", "8", "--seed", "7"),
        *(
            "--board",
            BOARD,
            "--device",
            f"pynq:{board.address}",
            "--overlay",
            str(archive),
            "--out",
            str(out),
        ),
        *settings,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.02)
    pause(board.process)
    time.sleep(1.5)  # the call under way has asked, and hears nothing
    begin = time.monotonic()
    process.send_signal(signal_number)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 130, message
    assert time.monotonic() - begin < 60  # of the deadline's 300
    assert "stopped after step" in message
    assert "saved; go on with: " in message
    resumed = run_training(DIGITS.changed(deadline_s=300.0), out=out, resume=True)
    assert (resumed.state_sha256, resumed.macs) == (undisturbed.state_sha256, undisturbed.macs)
