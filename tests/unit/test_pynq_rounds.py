# SPDX-License-Identifier: Apache-2.0
"""Rounds of chains on a board of stand-ins: what is called when, and how often."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from e2train.devices.deadline import Deadline
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq import PynqDevice
from e2train.devices.pynq_board import LOOK_CALLS, ROUND_CALLS, Board, LostError
from e2train.devices.pynq_buffer import Buffer
from e2train.devices.pynq_dma import ChainDma
from e2train.devices.pynq_engines import EngineDmas
from e2train.packing.descriptors import Pieces

ENGINES = 3


class Moved(np.ndarray):
    """A buffer that tells when it moves."""

    log: list[str]

    def __array_finalize__(self, other: Any) -> None:
        self.log = getattr(other, "log", [])

    def flush(self) -> None:
        self.log.append("send")

    def invalidate(self) -> None:
        self.log.append("receive")


class Dma:
    """One that is done once it was waited for, or fails."""

    def __init__(self, number: int, log: list[str]) -> None:
        self.number, self.log = number, log
        self.error: DeviceError | None = None

    def aim(self, *chains: Any) -> list[tuple[int, int]]:
        return [(0x40, 0), (0x10, 0)]

    def write(self, register: int, value: int) -> None:
        if self.error:
            raise self.error
        self.log.append(f"start {self.number}")

    def wait(self) -> None:
        self.log.append(f"wait {self.number}")


@pytest.fixture
def board() -> Board:
    found: Any = object.__new__(Board)
    log: list[str] = []
    found.log, found.calls = log, 0
    found._remote, found._to_look, found._has_answered = True, 0, True
    found._deadline, found._counting = Deadline(5.0), threading.Lock()
    dmas: Any = object.__new__(EngineDmas)
    dmas._remote, dmas._deadline, dmas._starter = True, found._deadline, None
    dmas._dmas = [Dma(number, log) for number in range(ENGINES)]
    found._dmas = dmas
    return found


def run(board: Any, done: list[set[int]] | None) -> list[str]:
    """What a round calls; ``done`` are the engines that are, at each time that their replies are received."""
    log = board.log
    log.clear()
    buffers = []
    for address in (0, 1 << 16):
        array = np.zeros(4096, np.uint8).view(Moved)
        array.log = log
        buffers.append(Buffer(array, address))
    pieces = {
        engine: (Pieces.of([(512, 8, True)]), Pieces.of([(1 << 16, 8, True)])) for engine in range(ENGINES)
    }
    planned = {0: 1e-4, 1: 2e-4, 2: 1e-5}

    def late() -> set[int]:
        return set(range(ENGINES)) - done[log.count("receive") - 1]

    board.run_chains(
        (buffers[0], 512), pieces, buffers[1], planned_s=planned, late=None if done is None else late
    )
    assert sorted(log[1:7]) == [f"start {engine}" for engine in range(ENGINES) for _ in range(2)]
    return [log[0], *log[7:]]


def test_a_round_that_takes_the_planned_time_is_not_looked_at(board: Any) -> None:
    assert run(board, [{0, 1, 2}]) == ["send", "receive"]
    assert board.calls == ROUND_CALLS  # stand-ins count no calls of their own


def test_who_is_late_is_waited_for_and_the_longest_is_looked_at_first_for_a_while(board: Any) -> None:
    assert run(board, [{1}, {0, 1, 2}]) == ["send", "receive", "wait 0", "wait 2", "receive"]
    for _ in range(64):
        assert run(board, [{0, 1, 2}]) == ["send", "wait 1", "receive"]
    assert run(board, [{0, 1, 2}]) == ["send", "receive"]
    assert LOOK_CALLS == 2


@pytest.mark.parametrize("remote", [True, False])
def test_all_are_waited_for_where_nothing_tells_or_looks_cost_nothing(board: Any, remote: bool) -> None:
    board._remote = board._dmas._remote = remote
    waits = [f"wait {engine}" for engine in range(ENGINES)]
    assert run(board, None if remote else [{0, 1, 2}]) == ["send", *waits, "receive"]


def test_an_engine_that_does_not_start_is_the_rounds_error(board: Any) -> None:
    board._dmas._dmas[1].error = DeviceError(
        "axi_dma_1 does not come out of its reset; program the board again"
    )
    with pytest.raises(
        DeviceError, match=r"^axi_dma_1 does not come out of its reset; program the board again$"
    ):
        run(board, [{0, 1, 2}])
    assert "receive" not in board.log


def test_a_buffer_that_could_not_be_given_back_is_not_given_back_again(board: Any) -> None:
    class Stuck(Moved):
        def freebuffer(self) -> None:
            raise DeviceError("the board does not give it back")

    buffer = Buffer(np.zeros(8, np.uint8).view(Stuck), 0)
    board._buffers = [buffer]
    with pytest.raises(DeviceError, match="does not give it back"):
        board.free(buffer)
    board.free(buffer)
    assert board._buffers == []


def test_memory_that_the_dmas_do_not_reach_is_given_back(board: Any) -> None:
    freed = []

    class High(Moved):
        physical_address = 0x8_0000_0000

        def freebuffer(self) -> None:
            freed.append(self.nbytes)

    board.device = None
    board._pynq = SimpleNamespace(allocate=lambda shape, kind, target: np.zeros(shape, kind).view(High))
    board._buffers = []
    with pytest.raises(DeviceError, match=r"^the board gives memory at 0x800000000, and the DMAs reach "):
        board.allocate(4096)
    assert (freed, board._buffers) == ([4096], [])
    High.physical_address = (1 << 32) - 4096  # ends where they do
    assert board.allocate(4096).address == (1 << 32) - 4096


def test_all_are_reset_where_one_does_not_come_out_of_it(board: Any) -> None:
    names = []

    def reset(name: str, error: str = "") -> Any:
        def call() -> None:
            names.append(name)
            if error:
                raise DeviceError(error)

        return SimpleNamespace(reset=call)

    board._dmas._starter = reset("cdma", "the CDMA does not come out of its reset")
    board._dmas._dmas = [reset("0", "the first DMA neither"), reset("1")]
    with pytest.raises(DeviceError, match=r"^the CDMA does not come out of its reset$"):
        board.reset()
    assert names == ["cdma", "0", "1"]


@pytest.mark.parametrize(("way", "name"), [(0x00, "sending"), (0x30, "receiving")])
def test_errors_of_both_channels_are_seen_where_all_was_received(way: int, name: str) -> None:
    idle, refused = 1 << 1, 1 << 5
    registers = {0x04: idle, 0x34: idle, way + 0x04: idle | refused}
    dma = ChainDma(registers.__getitem__, lambda register, value: None, Deadline(5.0))
    with pytest.raises(DeviceError, match=rf"^the DMA's {name} channel reports DMASlvErr "):
        dma.wait()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, DeviceError])
def test_what_an_operation_left_running_is_ended_before_the_next_one(board: Any, error: type) -> None:
    resets: list[str] = []
    board.reset = lambda: resets.append("reset")
    device: Any = object.__new__(PynqDevice)
    device._board, device._deadline, device._left_running = board, Deadline(5.0), False
    device._lock = SimpleNamespace(check=lambda: None)
    with pytest.raises(error), device.attended():
        raise error
    assert len(resets) == (error is DeviceError)  # Ctrl-C does not wait for the board
    for _ in range(2):
        with device.attended():
            assert resets == ["reset"]


def test_a_board_that_was_left_running_and_is_gone_is_connected_again(board: Any) -> None:
    reopened: list[str] = []

    def reset() -> None:
        raise LostError("the board no longer answers")

    board.reset = reset
    device: Any = object.__new__(PynqDevice)
    device._board, device._deadline, device._left_running = board, Deadline(5.0), True
    device._lock = SimpleNamespace(check=lambda: None)
    device._reopen = lambda error: reopened.append(str(error))
    with pytest.raises(DeviceError, match=r"; connected again$"), device.attended():
        raise AssertionError("not before it is reset")
    assert reopened == ["the board no longer answers"]
