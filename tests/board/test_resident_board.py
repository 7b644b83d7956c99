# SPDX-License-Identifier: Apache-2.0
"""Resident steps through the pynq client on a simulated board: the emulator's bits, faults, memory."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from e2sim.board import BoardServer, Fault
from e2sim.board.faults import FaultKind
from e2train.config import load_config
from e2train.devices import DeviceError, open_resident
from e2train.devices.chains.kept import KeptChains
from e2train.devices.protocol import StepLostError
from e2train.devices.pynq_board import ROUND_CALLS, WRITE_CALLS
from e2train.devices.pynq_engines import start_calls
from e2train.devices.resident import Convolution, DeviceTensor, Reduction
from e2train.devices.simulated_board import board_model, build_logic
from e2train.nn import build_model, describe
from e2train.numerics import rounded_forward
from e2train.overlay import load_board
from e2train.runtime.board_plan import plan_step
from e2train.runtime.resident import BodyError
from e2train.train import PRESETS, run_training
from pynq.pl_server.remote_device import RemoteBuffer

BOARD = "pynq_z2"
MODEL = board_model(load_board(BOARD))
KINDS = get_args(FaultKind)
DIGITS = PRESETS["digits"].changed(
    method="e2train",
    board=BOARD,
    execution="resident",
    gradient_rounding="dithered",
    meter="none",
    steps=3,
    batch=2,
    seed=7,
    test_images=2,
    skip=0.4,
    gate_weight=100.0,  # gates close from one step to the next
)


def run_emulated(config, out):
    summary = run_training(config, out=out)
    assert (summary.steps_run, summary.steps_dropped) == (2, 1)
    assert summary.blocks_skipped > 0
    return summary


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    return run_emulated(DIGITS, tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def kept(monkeypatch):
    """For each round of a run, the descriptors that it found ready on the board, or none."""
    rounds, find = [], KeptChains.find

    def watched(self, *args, **options):
        rounds.append(find(self, *args, **options))
        return rounds[-1]

    monkeypatch.setattr(KeptChains, "find", watched)
    return rounds


@pytest.fixture
def sparing(monkeypatch):
    """Let partial sums of weight gradients stay on the board and pack images, however few there are."""
    monkeypatch.setattr("e2train.devices.chains.packed._WORTH_BYTES", 1)
    monkeypatch.setattr("e2train.devices.chains.partial_sums._WORTH_BYTES", 1)
    monkeypatch.setattr("e2train.devices.chains.partial_sums._FEWEST", 1)


@pytest.fixture
def on_board(overlay):
    """The configuration of a run on a server's board."""

    def at(server, **changes):
        where = {"device": f"pynq:127.0.0.1:{server.port}", "overlay": str(overlay(BOARD))}
        return DIGITS.changed(**where, **changes)

    return at


# One engine, and four with unequal shares, which add up partial sums.
@pytest.mark.parametrize(("board", "batch", "spares"), [(BOARD, 2, False), ("zcu104", 5, True)])
def test_a_run_on_the_board_has_the_emulators_bits(overlay, tmp_path, kept, request, board, batch, spares):
    if spares:
        request.getfixturevalue("sparing")
    config = DIGITS.changed(batch=batch, board=board)
    emulated = run_emulated(config, tmp_path / "emulated")
    engines = load_config(board).engines
    assert min(batch, engines) == {BOARD: 1, "zcu104": 4}[board]
    with BoardServer(board_model(load_board(board)), build_logic, port=0) as server:
        where = {"device": f"pynq:127.0.0.1:{server.port}", "overlay": str(overlay(board))}
        summary = run_training(config.changed(**where), out=tmp_path / "board")
        assert server.board.memory.used_bytes == 0
        calls = server.calls
    for key in ("weights_sha256", "state_sha256", "test_accuracy", "macs", "host_bytes_per_step"):
        assert getattr(summary, key) == getattr(emulated, key), key
    assert summary.cycles is None
    # What chains of all engines send and receive moves at once, and is received again where one was not done
    # yet; images and gradients are sent, and descriptors of each round that comes again.
    chains, rounds = server.board.logic.transfers, len(kept) + engines  # that identify themselves
    assert rounds <= chains <= engines * rounds
    assert chains - engines > (engines - 1) * len(kept)
    assert calls["flush"] - rounds == 2 * summary.steps_run + 1 + len({*kept} - {None})
    assert rounds <= calls["invalidate"] <= 2 * rounds
    registers, starts = calls["write"] - calls["flush"], start_calls(engines) * rounds
    assert starts <= registers < starts + 40 * engines


def test_backward_passes_of_all_lengths_take_turns(overlay, tmp_path, kept):
    """Rounds of a longer pass are kept beside those of a shorter one, whatever came in between."""
    config = DIGITS.changed(steps=8, skip=0.0, smd=0.0, stem_updates=0.3)
    emulated = run_training(config, out=tmp_path / "emulated")
    with BoardServer(MODEL, build_logic, port=0) as server:
        where = {"device": f"pynq:127.0.0.1:{server.port}", "overlay": str(overlay(BOARD))}
        summary = run_training(config.changed(**where), out=tmp_path / "board")
    for key in ("weights_sha256", "state_sha256", "test_accuracy", "macs"):
        assert getattr(summary, key) == getattr(emulated, key), key
    assert len({*kept} - {None}) > 8


@pytest.mark.parametrize(
    ("board", "batch", "spares"),
    [
        (BOARD, 2, True),
        pytest.param("zcu104", 9, False, marks=pytest.mark.slow),
        pytest.param("zcu104", 9, True, marks=pytest.mark.slow),
    ],
)
def test_a_step_takes_what_was_planned(overlay, tmp_path, monkeypatch, request, board, batch, spares):
    """Chains and bytes, as the client moves them; calls but for further looks whether chains are done."""
    if spares:
        request.getfixturevalue("sparing")
    config, engines = DIGITS.changed(method="smb-int8", steps=4, batch=batch, board=board), load_config(board)
    emulated = run_training(config, out=tmp_path / "emulated")
    moved, moves = {"sent": 0, "received": 0, "calls": 0}, []

    def counted(name, size, calls):
        method = getattr(RemoteBuffer, name)

        def move(buffer):
            if moves[-1:] != ["invalidate"] or name == "flush":
                moved[size] += buffer.nbytes
                moved["calls"] += calls
            moves.append(name)
            method(buffer)

        monkeypatch.setattr(RemoteBuffer, name, move)

    counted("flush", "sent", WRITE_CALLS)
    counted("invalidate", "received", ROUND_CALLS - WRITE_CALLS)
    after = []
    with BoardServer(board_model(load_board(board)), build_logic, port=0) as server:

        def watch(row):
            after.append({"chains": server.board.logic.transfers, **moved})

        where = {"device": f"pynq:127.0.0.1:{server.port}", "overlay": str(overlay(board))}
        summary = run_training(config.changed(**where), out=tmp_path / "board", watch=watch)
    assert summary.state_sha256 == emulated.state_sha256
    planned = plan_step(describe(*build_model("digits")), engines, samples=batch)
    # All scales are known in the second step, and the descriptors of its rounds are kept from the third on.
    step = {key: after[3][key] - after[2][key] for key in after[1]}
    step["calls"] += start_calls(engines.engines) * planned.rounds  # those that start them
    assert step == {
        "chains": planned.chains,
        "sent": planned.sent_bytes,
        "received": planned.received_bytes,
        "calls": planned.calls,
    }


def test_faults_in_the_middle_of_steps_change_nothing(on_board, emulated, tmp_path):
    # One in each step, of which the first has 57 chains, and one behind them; the slow test has those that
    # only the deadline ends.
    kinds = {20: "dma-slverr", 80: "drop-connection", 92: "dma-slverr"}
    faults = [Fault(kind=kind, transfer=number) for number, kind in kinds.items()]
    with BoardServer(MODEL, build_logic, port=0, faults=faults) as server:
        summary = run_training(on_board(server, deadline_s=20.0), out=tmp_path)
        assert not server.faults.left
    assert summary.state_sha256 == emulated.state_sha256
    assert summary.macs == emulated.macs


def test_what_the_board_keeps_is_not_relied_on_after_a_fault(on_board, tmp_path, kept, sparing):
    """Faults in the middle of a step that sends them, and of one that finds all; the fifty have others."""
    config = {"method": "smb-int8", "steps": 5}
    emulated = run_training(DIGITS.changed(**config), out=tmp_path / "emulated")
    found = {}
    with BoardServer(MODEL, build_logic, port=0) as server:

        def watch(row):
            found[row.step] = sum(each is not None for each in kept)
            kept.clear()
            if kind := {2: "dma-slverr", 4: "restart"}.get(row.step):
                server.faults.add(Fault(kind=kind, transfer=server.faults.transfers + 12))

        summary = run_training(on_board(server, **config), out=tmp_path / "board", watch=watch)
        assert not server.faults.left
        assert server.board.memory.used_bytes == 0
    assert summary.state_sha256 == emulated.state_sha256
    assert 0 < found[3] == found[5] < found[4]


def test_a_fault_that_stays_is_one_line(on_board, tmp_path):
    faults = [Fault(kind="dma-slverr", transfer=number) for number in range(10, 40)]
    cause = r"the DMA's sending channel reports DMASlvErr \(the memory refused an access\)"
    with (
        BoardServer(MODEL, build_logic, port=0, faults=faults) as server,
        pytest.raises(DeviceError, match=rf"^\S+ \(\w+\) on pynq: {cause} \(step tried 3 times\)$"),
    ):
        run_training(on_board(server), out=tmp_path)


@pytest.mark.parametrize(
    ("kind", "deadline_s", "cause"),
    [
        (
            "dma-slverr",
            60.0,
            r"axi_dma_\d's sending channel reports DMASlvErr \(.*\)",
        ),
        ("hang", 1.0, "no whole reply within 1 s"),
    ],
)
def test_an_engine_that_fails_among_several_resets_all(overlay, rng, kind, deadline_s, cause):
    N = 4
    shapes = {"x": (N, 20, 6, 6), "y": (N, 16, 6, 6)}
    at = {"x": 0, "y": 1 << 16}
    x, y = (
        DeviceTensor(kind=kind, C=C, H=H, W=W, offsets=at[name] + (1 << 13) * np.arange(N, dtype=np.int64))
        for (name, (_, C, H, W)), kind in zip(shapes.items(), ("uint8", "int16"), strict=True)
    )
    w = rng.integers(-127, 128, (16, 20, 3, 3), np.int8)
    call = Convolution(
        mode="forward", source=x, destination=y, w=w, stride=(1, 1), padding=(1, 1, 1, 1), shift=6, sums=True
    )
    values = rng.integers(0, 256, shapes["x"], np.uint8)
    want = rounded_forward(values, w, stride=(1, 1), padding=(1, 1, 1, 1), shift=6, kind="int16")
    identified = load_config("zcu104").engines
    faults = [Fault(kind=kind, transfer=identified + 2)]
    with BoardServer(board_model(load_board("zcu104")), build_logic, port=0, faults=faults) as server:
        where = {"config": "zcu104", "overlay": overlay("zcu104"), "deadline_s": deadline_s}
        with open_resident(f"pynq:127.0.0.1:{server.port}", **where) as device:
            device.reserve(1 << 17)
            device.write(x, values)
            with pytest.raises(StepLostError, match=rf"^layer \(forward\) on pynq: {cause}$"):
                device.convolve(call)
            written = device.convolve(call)
            np.testing.assert_array_equal(device.read(y), want[0])
            np.testing.assert_array_equal(written.sums, want[1].sums)
            assert device.take_counters().retries == 1


def test_too_little_contiguous_memory_names_a_batch_that_fits(on_board, tmp_path):
    model = replace(MODEL, memory_bytes=(6 << 20) + 150_000)
    with BoardServer(model, build_logic, port=0) as server:
        with pytest.raises(BodyError) as refused:
            run_training(on_board(server, batch=64), out=tmp_path)
        assert server.board.memory.used_bytes == 0
    assert "images takes" in str(refused.value)
    assert "; use --batch " in str(refused.value)


def test_tensors_come_back_wherever_they_lie(overlay, rng):
    """Written as a whole, over parts of each other, and with gaps between their samples."""
    with BoardServer(MODEL, build_logic, port=0) as server:
        device = open_resident(f"pynq:127.0.0.1:{server.port}", config=BOARD, overlay=overlay(BOARD))
        with device:
            device.reserve(1 << 16)
            for start, step in ((0, 1024), (2048, 1024), (512 + 64, 2048), (0, 1024)):
                offsets = start + step * np.arange(4, dtype=np.int64)
                tensor = DeviceTensor(kind="int16", C=16, H=4, W=8, offsets=offsets)
                values = rng.integers(-(1 << 15), 1 << 15, tensor.shape, np.int16)
                device.write(tensor, values)
                np.testing.assert_array_equal(device.read(tensor), values)
        assert server.board.memory.used_bytes == 0


def test_images_are_unpacked_once_and_again_after_a_fault(overlay, rng):
    """They are sent packed, and an engine unpacks them before anything reads them or writes over some."""
    images = DeviceTensor(kind="int8", C=3, H=32, W=32, offsets=(1 << 14) * np.arange(6, dtype=np.int64))
    with BoardServer(MODEL, build_logic, port=0) as server:
        device = open_resident(f"pynq:127.0.0.1:{server.port}", config=BOARD, overlay=overlay(BOARD))
        with device:
            device.reserve(1 << 17)
            device.write(images, rng.integers(-128, 128, images.shape, np.int8))
            values = rng.integers(-128, 128, images.shape, np.int8)
            device.write(images, values)
            server.faults.add(Fault(kind="dma-slverr", transfer=server.faults.transfers + 1))
            with pytest.raises(StepLostError, match=r"^images to  \(reduce\) on pynq: "):
                device.reduce(Reduction(u=images, v=images))
            sums, products = device.reduce(Reduction(u=images, v=images))
            np.testing.assert_array_equal(sums, values.sum(axis=(0, 2, 3), dtype=np.int64))
            np.testing.assert_array_equal(products, (values.astype(np.int64) ** 2).sum(axis=(0, 2, 3)))
            before = server.faults.transfers
            np.testing.assert_array_equal(device.read(images), values)
            assert server.faults.transfers == before
            device.write(images, ~values)
            device.write(images.take(np.array([4])), values[:1])
            assert server.faults.transfers == before + 1
            np.testing.assert_array_equal(
                device.read(images), np.stack([*~values[:4], values[0], ~values[5]])
            )
            assert server.faults.transfers == before + 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("spares", [False, True])
def test_fifty_faults_at_random_places_change_nothing(on_board, tmp_path, rng, request, spares):
    """Kinds in turn, after the first step 30 to 60 chains apart: no step has more than it is tried."""
    if spares:
        request.getfixturevalue("sparing")
    config = {"steps": 220, "smd": 0.2, "gate_weight": 1.0}
    kinds = [KINDS[index % len(KINDS)] for index in range(52)]
    places = (60 + (30 + rng.integers(0, 30, len(kinds))).cumsum()).tolist()
    faults = [Fault(kind=kind, transfer=place) for kind, place in zip(kinds, places, strict=True)]
    emulated = run_training(DIGITS.changed(**config), out=tmp_path / "emulated")
    with BoardServer(MODEL, build_logic, port=0, faults=faults, silence_s=9.0) as server:
        summary = run_training(on_board(server, deadline_s=7.0, **config), out=tmp_path / "board")
        assert not server.faults.left
    assert summary.state_sha256 == emulated.state_sha256
