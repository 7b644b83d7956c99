# SPDX-License-Identifier: Apache-2.0
"""Two programs on one board: the second is refused; where none asks first, no reply goes to the wrong one."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import suppress

import numpy as np
import pytest
from e2sim.board import BoardServer
from e2train.config import load_config
from e2train.devices import MODES, open_device
from e2train.devices.board_lock import BoardLock
from e2train.devices.simulated_board import board_model, build_logic
from e2train.devices.spec import SpecDevice
from e2train.overlay import load_board
from e2train.runtime import execute
from e2train.runtime.board_check import mode_call
from serving import E2TRAIN

BOARD = "pynq_z2"


@pytest.fixture
def server(overlay):
    with BoardServer(board_model(load_board(BOARD)), build_logic, port=0) as running:
        yield running


def opened(server, overlay):
    return open_device(f"pynq:127.0.0.1:{server.port}", config=BOARD, overlay=overlay(BOARD), deadline_s=20.0)


def test_the_second_client_is_told_and_the_first_goes_on_undisturbed(server, overlay, tmp_path):
    calls = [mode_call("forward", np.random.default_rng(seed)) for seed in range(12)]
    wants = [execute(call, SpecDevice(load_config(BOARD))).value for call in calls]
    command = [
        *(*E2TRAIN, "board", "info", "--json", "--board", BOARD),
        *("--device", f"pynq:127.0.0.1:{server.port}", "--overlay", str(overlay(BOARD))),
    ]
    with opened(server, overlay) as first:
        second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        results, turn = [], 0
        while second.poll() is None or turn < len(calls):
            results.append(execute(calls[turn % len(calls)], first))
            assert np.array_equal(results[-1].value, wants[turn % len(calls)])
            turn += 1
            with suppress(subprocess.TimeoutExpired):  # it has a processor to start on
                second.wait(0.1)
        _, message = second.communicate()
    assert second.returncode == 2, message
    assert re.fullmatch(
        rf"e2train: the board at 127.0.0.1:{server.port} is in use by \S+@\S+, process \d+ \(since [-\d]+ "
        r"[:\d]+\); wait until that program ends, or use another board\n",
        message,
    ), message
    assert {result.counters.retries for result in results} == {0}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["configuration"] == BOARD


def test_without_the_lock_no_client_takes_the_reply_to_another_request(server, overlay, monkeypatch):
    """The DMA is at the other's descriptors, and its own buffer holds its last reply, which has the form."""
    for method in ("acquire", "check", "release"):
        monkeypatch.setattr(BoardLock, method, lambda self, *files: None)
    with opened(server, overlay) as one, opened(server, overlay) as other:
        for mode in MODES:
            first, second = (mode_call(mode, np.random.default_rng(seed)) for seed in range(2))
            wanted = execute(second, SpecDevice(load_config(BOARD))).value
            for device in (one, other):
                device._board.reset()  # so that it sets the registers
                execute(first, device)
            result = execute(second, one)  # the other's descriptors are complete
            assert (np.array_equal(result.value, wanted), result.counters.retries) == (True, 1)
            execute(first, other)
            other._board._sending.array.flush()  # now they are not, and end elsewhere
            result = execute(second, one)
            assert (np.array_equal(result.value, wanted), result.counters.retries) == (True, 1)
