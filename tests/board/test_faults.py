# SPDX-License-Identifier: Apache-2.0
"""Faults of a board: each is survived with the same integers, or ends in a line with layer and cause."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from e2sim.board import BoardServer
from e2train.config import load_config
from e2train.devices import DeviceError, DeviceLostError, open_device
from e2train.devices.simulated_board import board_model, build_logic
from e2train.devices.spec import SpecDevice
from e2train.overlay import load_board, read_overlay
from e2train.runtime import execute
from e2train.runtime.board_check import mode_call
from e2train.train import PRESETS, Interrupted, run_training

BOARD = "pynq_z2"
IDENTIFY = 1  # opening a device takes one transfer


@pytest.fixture
def call():
    return mode_call("forward", np.random.default_rng(1))


@pytest.fixture
def want(call):
    return execute(call, SpecDevice(load_config(BOARD))).value


def opened(address: str, archive, *, deadline_s: float = 5.0):
    return open_device(f"pynq:{address}", config=BOARD, overlay=archive, deadline_s=deadline_s)


@pytest.mark.parametrize("fault", ["dma-slverr", "bitflip", "hang", "drop-connection"])
def test_a_fault_is_survived_with_the_same_integers(serve, overlay, call, want, fault):
    board = serve(BOARD, "--fault", f"{fault}@{IDENTIFY + 2}")
    with opened(board.address, overlay(BOARD), deadline_s=3.0) as device:
        before = execute(call, device)
        during = execute(call, device)
        after = execute(call, device)
    for result in (before, during, after):
        assert np.array_equal(result.value, want)
    assert (before.counters.retries, during.counters.retries, after.counters.retries) == (0, 1, 0)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("dma-slverr", r"the DMA's sending channel reports DMASlvErr \(the memory refused an access\)"),
        ("bitflip", r"frame 1 of 1: the engine reports: the frame's check words do not match \(status 7\)"),
        ("hang", r"no whole reply within 1 s"),
    ],
)
def test_a_fault_that_stays_ends_in_one_line(serve, overlay, call, fault, cause):
    faults = [word for n in range(1, 4) for word in ("--fault", f"{fault}@{IDENTIFY + n}")]
    board = serve(BOARD, *faults)
    begin = time.monotonic()
    with opened(board.address, overlay(BOARD), deadline_s=1.0) as device:
        with pytest.raises(DeviceError, match=rf"^self-test \(forward\) on pynq: {cause} \(tried 3 times\)$"):
            execute(call, device)
        assert time.monotonic() - begin < 20
        assert execute(call, device).counters.retries == 0  # the board is ready again


@pytest.mark.slow
def test_training_on_a_board_that_fails_resumes_with_nothing_lost(serve, overlay, tmp_path):
    """The checkpoint stands, and another board goes on from it to the undisturbed state."""
    config = PRESETS["digits"].changed(
        execution="offload",
        method="psg",
        board=BOARD,
        overlay=str(overlay(BOARD)),
        steps=4,
        batch=8,
        seed=7,
        test_images=4,
    )
    whole = run_training(config, out=tmp_path / "whole")

    def stop_after_two(row):
        if row.step == 2:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "cut"
    with pytest.raises(Interrupted):
        run_training(config, out=out, watch=stop_after_two)
    failing = serve(BOARD, *(word for n in range(9, 12) for word in ("--fault", f"hang@{IDENTIFY + n}")))
    with pytest.raises(
        DeviceError, match=r"^\S+ \(\w+\) on pynq: no whole reply within 1 s \(tried 3 times\)$"
    ):
        run_training(config.changed(device=f"pynq:{failing.address}", deadline_s=1.0), out=out, resume=True)
    assert not (out / "summary.json").exists()
    healthy = serve(BOARD)
    resumed = run_training(config.changed(device=f"pynq:{healthy.address}"), out=out, resume=True)
    for key in ("weights_sha256", "state_sha256", "macs", "steps_run"):
        assert getattr(resumed, key) == getattr(whole, key), key


def test_a_board_that_restarts_is_connected_again(serve, overlay, call, want):
    archive = overlay(BOARD)
    first = serve(BOARD)
    with opened(first.address, archive, deadline_s=20.0) as device:
        execute(call, device)
        first.process.kill()
        first.process.wait()
        starter = threading.Thread(target=lambda: (time.sleep(1.0), serve(BOARD, port=first.port)))
        starter.start()
        result = execute(call, device)
        starter.join()
    assert np.array_equal(result.value, want)
    assert result.counters.retries == 1


def test_a_board_that_is_gone_is_one_line_within_the_deadline(serve, overlay, call):
    board = serve(BOARD)
    with opened(board.address, overlay(BOARD), deadline_s=2.0) as device:
        board.process.kill()
        board.process.wait()
        begin = time.monotonic()
        where = rf"the board at {board.address} no longer answers"
        with pytest.raises(DeviceLostError, match=rf"^self-test \(forward\) on pynq: {where}"):
            execute(call, device)
        assert time.monotonic() - begin < 15


def test_a_forgotten_flush_shows(serve, overlay, call, monkeypatch):
    """The cache model works: without flushes the engine reads old memory."""
    from pynq.pl_server.remote_device import RemoteBuffer

    board = serve(BOARD)
    with opened(board.address, overlay(BOARD)) as device:
        monkeypatch.setattr(RemoteBuffer, "flush", lambda self: None)
        with pytest.raises(DeviceError):
            execute(call, device)


def test_a_board_out_of_contiguous_memory_is_one_line_and_goes_on_with_less(overlay, call, want):
    model = replace(board_model(load_board(BOARD)), memory_bytes=64 << 10)
    large = mode_call("forward", np.random.default_rng(1), 64)
    with (
        BoardServer(model, build_logic, port=0) as server,
        opened(f"127.0.0.1:{server.port}", overlay(BOARD)) as device,
    ):
        with pytest.raises(
            DeviceError,
            match=r"on pynq: the board has no contiguous memory left for a buffer of \d+ KiB; free",
        ):
            execute(large, device)
        assert np.array_equal(execute(call, device).value, want)


@pytest.mark.parametrize("content", ["cut off", "of another version"])
def test_a_stale_firmware_file_is_one_line(overlay, content):
    """The client keeps to a file of the overlay's name that lies on the board, whatever is in it."""
    archive = overlay(BOARD)
    model = board_model(load_board(BOARD))
    path = f"/lib/firmware/{read_overlay(archive).name}.bin"
    with BoardServer(model, build_logic, port=0) as server:
        opened(f"127.0.0.1:{server.port}", archive).close()
        uploaded = server.board.files.read(path)
    assert uploaded
    config_hash = str(load_config(BOARD).hash32).encode()
    words = np.frombuffer(uploaded, ">u4").astype("<u4").tobytes()
    assert config_hash in words
    other = words.replace(config_hash, str(int(config_hash) ^ 1).encode())
    stale = uploaded[:100] if content == "cut off" else np.frombuffer(other, "<u4").astype(">u4").tobytes()
    cause = "is cut off" if content == "cut off" else "the bitstream is for another pynq_z2"
    with BoardServer(model, build_logic, port=0) as server:
        server.board.files.add(path, stale)
        with pytest.raises(
            DeviceError,
            match=rf"^the board cannot be programmed with \S+\.bit: .*{cause}.*; if an old {path} lies on it",
        ):
            opened(f"127.0.0.1:{server.port}", archive)


def test_the_overlay_of_another_configuration_is_refused(overlay):
    with pytest.raises(
        DeviceError, match=r"holds the configuration pynq_z2 \(0x\w{8}\), the host expects kv260"
    ):
        open_device("pynq:127.0.0.1:1", config="kv260", overlay=overlay(BOARD))
