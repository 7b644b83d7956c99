# SPDX-License-Identifier: Apache-2.0
"""Replies to a chain, read together: the same as one by one, and no flipped bit goes unnoticed."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from e2train.config import load_config
from e2train.devices.chains import replies
from e2train.devices.chains.jobs import plan_job
from e2train.devices.chains.replies import is_whole, read_replies
from e2train.devices.chains.transfer import Area, ChainPieces, lay_out
from e2train.devices.protocol import DeviceError
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Reduction, WeightGradient
from e2train.numerics.frames import run_transfer
from e2train.packing.descriptors import interpret, write_descriptors

CONFIG = load_config("pynq_z2")
ONE = np.ones(20, np.int64)


def tensor(number: int, kind: str) -> DeviceTensor:
    return DeviceTensor(kind=kind, C=20, H=6, W=6, offsets=(number << 14) + 4096 * np.arange(3))


CALLS = (
    Affine(u=tensor(0, "int8"), out=tensor(1, "int8"), a=3 * ONE, b=0 * ONE, d=ONE, shift=1, sums=True),
    Reduction(u=tensor(0, "int8"), v=tensor(2, "int8"), per_sample=True),
    Reduction(u=tensor(0, "int8"), v=tensor(2, "int8")),
    WeightGradient(
        x=tensor(0, "int8"), gy=tensor(2, "int8"), kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1)
    ),
    Convolution(
        mode="forward",
        source=tensor(0, "int8"),
        destination=tensor(3, "int16"),
        w=np.ones((20, 20, 1, 1), np.int8),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        shift=2,
        sums=True,
    ),
)


@pytest.fixture
def answered(rng: np.random.Generator) -> tuple[ChainPieces, np.ndarray, int]:
    """A chain, the memory with its replies, and where they end."""
    memory = np.zeros(1 << 18, np.uint8)
    memory[: 1 << 16] = rng.integers(0, 256, 1 << 16, np.uint8)
    frames = [frame for call in CALLS for frame in plan_job(call, CONFIG).frames]
    receive = Area(memory=memory, base=0, at=1 << 16)
    laid = lay_out(frames, Area(memory=memory, base=0, at=1 << 17), receive)
    mm2s = write_descriptors(memory, laid.mm2s, 3 << 16)
    s2mm = write_descriptors(memory, laid.s2mm, mm2s.last + 64)
    interpret(memory, mm2s, s2mm, lambda words: run_transfer(words, CONFIG))
    return laid, memory, receive.at


def test_replies_are_the_same_together_and_one_by_one(answered) -> None:
    laid, memory, _ = answered
    assert is_whole(laid, memory)
    together, alone = read_replies(laid, memory), replies._one_by_one(laid, memory)
    assert len({reply.sides.shape for reply in alone}) > 2
    assert any(reply.results.size for reply in alone)
    assert any(reply.saturations for reply in alone)
    for one, other in zip(together, alone, strict=True):
        for each in fields(one):
            assert np.array_equal(getattr(one, each.name), getattr(other, each.name)), each.name
            assert type(getattr(one, each.name)) is type(getattr(other, each.name))


def test_every_flipped_bit_is_noticed(answered, rng: np.random.Generator) -> None:
    laid, memory, end = answered
    first = laid.replies[0]
    for at in rng.integers(first, end, 200):
        damaged = memory.copy()
        damaged[at] ^= 1 << rng.integers(8)
        assert not is_whole(laid, damaged)
        number = max(index for index, start in enumerate(laid.replies) if start <= at)
        with pytest.raises(DeviceError, match=rf"^frame {number + 1} of {len(laid.frames)}: "):
            read_replies(laid, damaged)
