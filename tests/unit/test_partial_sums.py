# SPDX-License-Identifier: Apache-2.0
"""Partial sums that stay on the board: added up there byte by byte, exact, and checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from e2train.config import load_config
from e2train.devices.chains.address_map import AddressMap
from e2train.devices.chains.partial_sums import SUMS_AT, SUMS_BYTES, PartialSums, SumsLater
from e2train.devices.chains.replies import read_replies
from e2train.devices.chains.rounds import last_round, plan_rounds
from e2train.devices.chains.transfer import Area, lay_out
from e2train.devices.memory import SpecResident
from e2train.devices.protocol import StepLostError
from e2train.devices.resident import DeviceTensor, Reduction, WeightGradient
from e2train.numerics.bounds import PAIRED_GRAD_WEIGHT_TERMS
from e2train.numerics.frames import run_transfer
from e2train.packing.descriptors import interpret, write_descriptors

ENGINES = 3
CONFIG = replace(load_config("zcu104"), engines=ENGINES)
TENSORS, SUMS, OWN = 1 << 20, 3 << 20, 1 << 20  # bytes of the memory: tensors, partial sums, chains


class Board:
    """Engines by the spec, over memory in which partial sums lie behind the tensors."""

    def __init__(self) -> None:
        self.memory = np.zeros(TENSORS + SUMS + OWN, np.uint8)
        self.places = AddressMap()
        self.places.put(0, TENSORS, 0)
        self.places.put(SUMS_AT, SUMS_BYTES, TENSORS)  # of each half the begin is used
        self.sums = PartialSums(CONFIG, lambda: True)
        self.spec = SpecResident()
        self.spec.reserve(TENSORS)
        self.fetched = 0

    def write(self, tensor: DeviceTensor, values: np.ndarray) -> None:
        self.spec.write(tensor, values)
        self.memory[:TENSORS] = self.spec._memory[:TENSORS]

    def run_round(self, chains):
        replies = {}
        for engine, chain in chains.items():
            area = Area(memory=self.memory, base=0, at=TENSORS + SUMS)
            owners, frames = zip(*chain, strict=True)
            laid = lay_out(frames, area, area, self.places.translate, owners=owners)
            mm2s = write_descriptors(self.memory, laid.mm2s, -(-area.at // 64) * 64)
            s2mm = write_descriptors(self.memory, laid.s2mm, mm2s.last + 64)
            interpret(self.memory, mm2s, s2mm, lambda words: run_transfer(words, CONFIG))
            replies[engine] = read_replies(laid, self.memory)
            for reply in replies[engine]:
                self.sums.take(reply)
                self.fetched += reply.results.nbytes
        return replies

    def run(self, *calls):
        planned = plan_rounds(calls, CONFIG, room=OWN // 2, sums=self.sums, finish=self.finish)
        found = [[] for _ in calls]
        for chains in planned.rounds:
            for replies in self.run_round(chains).values():
                for reply in replies:
                    if reply.owner is not None:
                        found[reply.owner].append(reply)
        return [collect(replies) for collect, replies in zip(planned.collect, found, strict=True)]

    def finish(self) -> None:
        self.run_round(last_round(self.sums))


@pytest.fixture
def board(monkeypatch):
    monkeypatch.setattr("e2train.devices.chains.partial_sums._WORTH_BYTES", 0)
    monkeypatch.setattr("e2train.devices.chains.partial_sums._HALF", SUMS // 2)
    return Board()


def operands(board, rng, *, samples=10, kinds=("uint8", "int8"), extreme=False, size=16, at=0):
    """Tensors of x and gy with their values, and the call."""
    made = []
    for kind, channels in zip(kinds, (16, 32), strict=True):
        info = np.iinfo(kind)
        each = channels * size * size * info.bits // 8
        tensor = DeviceTensor(
            kind=kind, C=channels, H=size, W=size, offsets=at + each * np.arange(samples, dtype=np.int64)
        )
        low = info.min if info.min else info.max
        values = rng.integers(info.min, info.max, tensor.shape, endpoint=True)
        board.write(tensor, (np.full(tensor.shape, low) if extreme else values).astype(kind))
        made.append(tensor)
        at += samples * each
    x, gy = made
    return WeightGradient(x=x, gy=gy, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))


@pytest.mark.parametrize("kinds", [("uint8", "int8"), ("int8", "int8"), ("uint8", "int16")], ids="-".join)
@pytest.mark.parametrize("extreme", [False, True])
def test_sums_equal_the_spec(board, rng, kinds, extreme):
    call = operands(board, rng, kinds=kinds, extreme=extreme)
    (later,) = board.run(call)
    assert isinstance(later, SumsLater)
    want = board.spec.weight_gradient(call)
    assert later.size == want.size
    np.testing.assert_array_equal(later.get(), want)


def test_fewer_bytes_come(board, rng, monkeypatch):
    call = operands(board, rng, samples=30)
    board.run(call)[0].get()
    kept = board.fetched
    monkeypatch.setattr("e2train.devices.chains.partial_sums._WORTH_BYTES", 1 << 40)
    board.fetched = 0
    np.testing.assert_array_equal(board.run(call)[0], board.spec.weight_gradient(call))
    assert 0 < kept <= board.fetched / 3


def test_the_next_round_brings_them_along_while_others_are_written(board, rng):
    one, two = operands(board, rng), operands(board, rng, at=TENSORS // 2, samples=5)
    (first,) = board.run(one)
    (second,) = board.run(two)
    assert all(parts.is_whole for parts in first.parts)
    assert {parts.at >= SUMS_AT + SUMS // 2 for parts in second.parts} == {True}
    board.memory[TENSORS : TENSORS + SUMS // 2] = 0xFF  # nobody reads the first half any more
    board.run(Reduction(u=one.x, v=one.x))
    assert not board.sums.is_due
    for call, later in ((one, first), (two, second)):
        np.testing.assert_array_equal(later.get(), board.spec.weight_gradient(call))


def test_a_sum_that_changed_in_the_memory_is_noticed(board, rng):
    (later,) = board.run(operands(board, rng))
    board.memory[TENSORS + 77] ^= 1 << 5
    message = r"^partial sums of a weight gradient changed in the board's memory$"
    with pytest.raises(StepLostError, match=message):
        later.get()


def test_sums_that_are_lost_are_noticed(board, rng):
    (later,) = board.run(operands(board, rng))
    board.sums.forget()
    message = r"^partial sums of a weight gradient were lost with the board's memory$"
    with pytest.raises(StepLostError, match=message):
        later.get()


def test_parts_whose_sum_could_leave_int32_are_not_added_up(board, rng, monkeypatch):
    call, most = operands(board, rng, samples=42), 4 * 512
    assert 255 * 128 * PAIRED_GRAD_WEIGHT_TERMS < 1 << 31 <= 255 * 128 * (PAIRED_GRAD_WEIGHT_TERMS + 1)
    monkeypatch.setattr("e2train.devices.chains.partial_sums.PAIRED_GRAD_WEIGHT_TERMS", most)
    (later,) = board.run(call)
    terms = {
        sum(frame.header.iterations // frame.header.results for frame in each.frames) for each in later.parts
    }
    assert 0 < max(terms) <= most
    np.testing.assert_array_equal(later.get(), board.spec.weight_gradient(call))
