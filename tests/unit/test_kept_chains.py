# SPDX-License-Identifier: Apache-2.0
"""Descriptors that a board keeps: what is ready when, what is sent again, and what is given back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from e2train.config import load_config
from e2train.devices.chains import kept
from e2train.devices.chains.board import BoardResident
from e2train.devices.chains.kept import KeptChains, KeptRound, is_kept, kept_rows, restoring_frames
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.replies import ExpectedReplies
from e2train.devices.chains.transfer import Area, ChainPieces, lay_out, reply_words
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq_board import LostError
from e2train.devices.spec import SpecDevice
from e2train.numerics.frames import Header, Mode
from e2train.packing.descriptors import DESCRIPTOR_BYTES, Pieces, interpret, write_chains, write_descriptors

CONFIG = load_config("pynq_z2")
FIRSTS = 1 << 20


def is_whole(laid: ChainPieces, memory: np.ndarray) -> bool:
    """Whether no part of the replies to a chain is missing."""
    return not ExpectedReplies({0: laid}).late({0: laid.nonce}, memory)


@pytest.mark.parametrize("rows", [1, 300, 1001])
def test_frames_write_the_copy_over_the_table(rng: np.random.Generator, rows: int) -> None:
    table, copy, own, size = 4096, 1 << 18, 1 << 19, rows * DESCRIPTOR_BYTES
    memory = np.zeros(1 << 20, np.uint8)
    memory[copy : copy + size] = rng.integers(0, 256, size, np.uint8)
    memory[table : table + size] = ~memory[copy : copy + size]
    want = memory[: table + size + 4096].copy()
    want[table : table + size] = memory[copy : copy + size]
    device = SpecDevice(CONFIG)
    area = Area(memory=memory, base=0, at=own)
    laid = lay_out(restoring_frames(rows, CONFIG, table=table, copy=copy), area, area)
    mm2s = write_descriptors(memory, laid.mm2s, -(-area.at // 64) * 64)
    s2mm = write_descriptors(memory, laid.s2mm, mm2s.last + 64)
    words = laid.s2mm.words
    interpret(memory, mm2s, s2mm, lambda sent: device.transfer(sent, reply_words=words).reply)
    np.testing.assert_array_equal(memory[: want.size], want)


def test_a_round_is_whole_when_no_part_of_any_reply_is_missing(rng: np.random.Generator) -> None:
    """A copy of the memory that was made meanwhile may lack early parts, and have later ones."""
    table, copy, own = 4096, 1 << 18, 1 << 19
    memory = np.zeros(1 << 20, np.uint8)
    device = SpecDevice(CONFIG)
    area = Area(memory=memory, base=0, at=own)
    laid = lay_out(restoring_frames(1001, CONFIG, table=table, copy=copy), area, area)
    assert len(laid.frames) > len(laid.reports) == 1
    mm2s = write_descriptors(memory, laid.mm2s, -(-area.at // 64) * 64)
    s2mm = write_descriptors(memory, laid.s2mm, mm2s.last + 64)
    assert not is_whole(laid, memory)
    words = laid.s2mm.words
    interpret(memory, mm2s, s2mm, lambda sent: device.transfer(sent, reply_words=words).reply)
    assert is_whole(laid, memory)
    for report in laid.reports:
        for at in range(report.at, report.at + 8 * reply_words(laid.frames[report.last]), 8):
            lacking = memory.copy()
            lacking[at : at + 8] = 0xA5
            assert not is_whole(laid, lacking)


def sent_frames(weights: list[np.ndarray], *, results: int) -> list[PlannedFrame]:
    """A frame for each of these, with a result of its own and the header of all."""
    header = Header(mode=Mode.FORWARD, ic_lanes=16, oc_lanes=8)  # those of one operation
    return [
        PlannedFrame(header=header, sources=(each,), results=[(results + 64 * number, 64)])
        for number, each in enumerate(weights)
    ]


@pytest.mark.parametrize("spread", [9, 0], ids=["apart", "alike"])
def test_what_engines_are_sent_alike_stands_once(rng: np.random.Generator, spread: int) -> None:
    """Weights of an operation, wherever its frames run; places depend on sizes alone, not on values."""
    one, two, other = (rng.integers(-spread, spread + 1, 64).astype(np.int8) for _ in range(3))
    area, replies = (Area(memory=np.zeros(1 << 12, np.uint8), base=0, at=0) for _ in range(2))
    laid = [
        lay_out(sent_frames(weights, results=results), area, replies, owners=[3, 3, 3, 5])
        for weights, results in (([one, two, one, other], 4096), ([one, two, one, other], 8192))
    ]
    # Headers of 112 bytes: of frames that hold their reports back, of the one that reports for them and of
    # the last one, which no frame follows; of each engine with its own nonce.
    assert laid[0].mm2s.addresses.tolist() == [0, 0, 176, 112, 352]
    assert laid[1].mm2s.addresses.tolist() == [528, 112, 528, 176, 640, 112, 752, 464]
    assert [each.mm2s.words * 8 for each in laid] == [4 * (112 + 64)] * 2
    assert area.at == 864
    assert [area.memory[at : at + 64].tobytes() for at in (112, 176, 464)] == [
        each.tobytes() for each in (one, two, other)
    ]


class FakeBoard:
    """Memory, and what was asked for."""

    def __init__(self, *, room: int | None = 64 << 20) -> None:
        self.is_remote = True
        self.room, self.asked = room, 0
        self.error: DeviceError | None = None
        self.buffers: list[Any] = []
        self.flushed: list[int] = []

    def free_bytes(self) -> int | None:
        self.asked += 1
        return self.room

    def allocate(self, nbytes: int) -> Any:
        if self.error:
            raise self.error
        buffer = SimpleNamespace(memory=np.zeros(nbytes, np.uint8), address=(1 + len(self.flushed)) << 24)
        self.buffers.append(buffer)
        return buffer

    def free(self, buffer: Any) -> None:
        (at,) = [at for at, each in enumerate(self.buffers) if each is buffer]
        del self.buffers[at]

    def flush(self, buffer: Any, nbytes: int) -> None:
        self.flushed.append(nbytes)


def chain(rows: int, *, at: int = 0) -> ChainPieces:
    """One with so many rows to keep."""
    pieces = [Pieces.of((at + 64 * n, 8, n == rows // 2) for n in range(rows // 2 + 1)) for _ in range(2)]
    return ChainPieces(frames=[], nonce=0, mm2s=pieces[0], s2mm=pieces[1], reports=[])


def found(chains: KeptChains, board: FakeBoard, laid: dict[int, ChainPieces]) -> KeptRound | None:
    return chains.find(board, laid, firsts=FIRSTS)  # type: ignore[arg-type]


def test_a_round_is_kept_from_the_second_time_on_and_ready_once_it_was_mended() -> None:
    board, chains = FakeBoard(), KeptChains(CONFIG)
    laid, other = {0: chain(40), 2: chain(60)}, {0: chain(40, at=8), 2: chain(60)}
    assert found(chains, board, laid) is None
    assert found(chains, board, other) is None
    first = found(chains, board, laid)
    assert first is not None
    assert board.flushed == [2 * 100 * DESCRIPTOR_BYTES]
    assert first.buffer.memory[:6400].tobytes() == first.buffer.memory[6400:12800].tobytes()
    assert {engine: [each.count for each in ways if each] for engine, ways in first.tables.items()} == {
        0: [20, 20],
        2: [30, 30],
    }
    chains.use(first)
    assert found(chains, board, laid) is None  # the DMA has marked its descriptors
    assert chains.restoring(0) == first.restoring[0]
    chains.restored([0])
    assert found(chains, board, laid) is None
    assert (list(chains.restoring(0)), chains.restoring(2)) == ([], first.restoring[2])
    chains.restored([2])
    assert found(chains, board, laid) is first
    assert len(board.flushed) == 1


def test_tables_are_those_that_would_be_sent() -> None:
    """The DMA finds the same descriptors but for their places."""
    board, chains, laid = FakeBoard(), KeptChains(CONFIG), {1: chain(50)}
    found(chains, board, laid)
    there = found(chains, board, laid)
    assert there is not None
    base, table = there.buffer.address, there.tables[1][1]
    assert table is not None
    sent = np.zeros(1 << 14, np.uint8)
    pieces = laid[1].s2mm
    write_chains(sent, [(pieces, base, None)], table.first, base=base)
    start = table.first - base
    own = there.buffer.memory[start : table.last - base + 64].reshape(-1, 64).copy()
    want = sent[start : start + own.size].reshape(-1, 64).copy()
    assert own[-1, :8].view(np.uint64) == FIRSTS + 3 * DESCRIPTOR_BYTES  # of engine 1, receiving
    own[-1, :8] = want[-1, :8]
    np.testing.assert_array_equal(own, want)


def test_after_a_failure_nothing_is_relied_on() -> None:
    board, chains, laid = FakeBoard(), KeptChains(CONFIG), {0: chain(40)}
    found(chains, board, laid)
    kept_one = found(chains, board, laid)
    assert kept_one is not None
    chains.use(kept_one)
    chains.forget()
    assert (list(chains.restoring(0)), chains.nbytes) == ([], kept_one.buffer.memory.size)
    assert found(chains, board, laid) is None
    assert (board.buffers, chains.nbytes) == ([], 0)
    assert found(chains, board, laid) is not kept_one
    assert len(board.flushed) == 2
    assert list(map(id, chains.take_buffers())) == list(map(id, board.buffers))
    assert chains.nbytes == 0


def test_rounds_that_do_not_come_again_make_room_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a step with more rounds than there is room for would send each of them twice."""
    monkeypatch.setattr(kept, "MOST_KEPT_BYTES", 40_000)
    monkeypatch.setattr(kept, "_UNUSED_ROUNDS", 10)
    board, chains = FakeBoard(), KeptChains(CONFIG)
    laid = [{0: chain(100, at=8 * number)} for number in range(4)]  # 12,800 bytes each
    steps = [[found(chains, board, each) for each in laid] for _ in range(4)]
    assert steps[0] == [None] * 4
    assert steps[1] == steps[2] == steps[3]
    assert [each is None for each in steps[1]] == [False, False, False, True]
    assert len(board.flushed) == 3
    rounds = steps[1]
    chains.use(rounds[1])  # type: ignore[arg-type]
    for _ in range(3):  # the last of which is ten rounds behind the second one's
        assert [found(chains, board, laid[number]) for number in (0, 2)] == [rounds[0], rounds[2]]
        last = found(chains, board, laid[3])
    assert last is not None
    assert (list(chains.restoring(0)), len(board.buffers), len(board.flushed)) == ([], 3, 4)
    assert found(chains, board, laid[1]) is None
    assert found(chains, board, laid[0]) is rounds[0]


@pytest.mark.parametrize("room", [None, 8 << 20])
def test_without_spare_memory_rounds_are_sent_and_the_board_is_asked_once(room: int | None) -> None:
    board, chains, laid = FakeBoard(room=room), KeptChains(CONFIG), {0: chain(40)}
    assert [found(chains, board, laid) for _ in range(4)] == [None] * 4
    assert (board.asked, board.buffers) == (1, [])
    chains.forget()
    board.room = 64 << 20
    assert [found(chains, board, laid) is None for _ in range(2)] == [True, False]


def test_memory_in_no_piece_is_none_and_a_lost_board_is_lost() -> None:
    board, chains, laid = FakeBoard(), KeptChains(CONFIG), {0: chain(40)}
    board.error = DeviceError("the board has no contiguous memory left")
    assert [found(chains, board, laid) for _ in range(3)] == [None] * 3
    chains.forget()
    board.error = LostError("gone")
    found(chains, board, laid)
    with pytest.raises(LostError, match=r"^gone$"):
        found(chains, board, laid)


def test_few_rows_and_a_board_of_its_own_keep_nothing() -> None:
    few, many = {0: chain(20), 1: chain(10)}, {0: chain(20), 1: chain(12)}
    assert [kept_rows(each) for each in many.values()] == [20, 12]
    assert [is_kept(each.values(), CONFIG) for each in (few, many)] == [False, True]
    assert not is_kept([chain(1 << 15)], CONFIG)
    board, chains = FakeBoard(), KeptChains(CONFIG)
    board.is_remote = False
    assert [found(chains, board, many) for _ in range(3)] == [None] * 3


def test_kept_descriptors_make_room_for_what_a_step_needs() -> None:
    board: Any = FakeBoard()
    device = object.__new__(BoardResident)
    device._kept = KeptChains(CONFIG)
    held = board.allocate(64)
    device._kept._kept[b"round"] = KeptRound(buffer=held, tables={}, restoring={})

    def allocate() -> Any:
        if board.buffers:
            raise DeviceError("no contiguous memory left")
        return board.allocate(32)

    assert device._making_room(board, allocate).memory.size == 32
    assert [each.memory.size for each in board.buffers] == [32]
    with pytest.raises(DeviceError, match=r"^no contiguous memory left$"):  # nothing is kept any more
        device._making_room(board, allocate)
