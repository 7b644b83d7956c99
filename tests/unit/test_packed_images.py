# SPDX-License-Identifier: Apache-2.0
"""Images that are sent packed: they lie as if they had been written whole, before anything reads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from e2train.config import load_config
from e2train.devices.chains.address_map import AddressMap, parts
from e2train.devices.chains.packed import PACKED_AT, Unpacking, pack, unpacking
from e2train.devices.chains.replies import read_replies
from e2train.devices.chains.rounds import plan_rounds
from e2train.devices.chains.transfer import Area, lay_out
from e2train.devices.memory import SpecResident
from e2train.devices.resident import DeviceTensor, Reduction
from e2train.numerics.frames import run_transfer
from e2train.packing.descriptors import interpret, write_descriptors

ENGINES = 3
CONFIG = replace(load_config("zcu104"), engines=ENGINES)
TENSORS, OWN = 1 << 20, 1 << 20  # bytes of the memory: tensors, then packed ones as many, then chains


def images(kind: str, C: int, H: int, W: int, N: int, *, gap: int = 64) -> DeviceTensor:
    step = 16 * H * W + gap
    return DeviceTensor(kind=kind, C=C, H=H, W=W, offsets=128 + step * np.arange(N, dtype=np.int64))


def run(calls, memory):
    """Let engines by the spec run them; gives what each round was of, by engine."""
    places = AddressMap()
    places.put(0, TENSORS, 0)
    places.put(PACKED_AT, TENSORS, TENSORS)
    ran = []
    for chains in plan_rounds(calls, CONFIG, room=OWN // 2).rounds:
        ran.append({engine: [index for index, _ in chain] for engine, chain in chains.items()})
        for chain in chains.values():
            area = Area(memory=memory, base=0, at=2 * TENSORS)
            laid = lay_out([frame for _, frame in chain], area, area, places.translate)
            mm2s = write_descriptors(memory, laid.mm2s, -(-area.at // 64) * 64)
            s2mm = write_descriptors(memory, laid.s2mm, mm2s.last + 64)
            interpret(memory, mm2s, s2mm, lambda words: run_transfer(words, CONFIG))
            read_replies(laid, memory)
    return ran


SHAPES = [
    ("int8", 3, 32, 32, 7, 4),
    ("uint8", 1, 32, 32, 7, 16),
    ("int8", 2, 24, 40, 9, 8),
    ("int8", 4, 32, 20, 9, 4),
    ("uint8", 5, 90, 30, 5, 2),  # rows go into several frames
    ("int8", 3, 50, 50, 4, 2),  # samples end at no multiple of 64 bytes
]


@pytest.mark.parametrize(("kind", "C", "H", "W", "N", "count"), SHAPES, ids=str)
def test_unpacked_images_lie_where_whole_ones_would(rng, kind, C, H, W, N, count):
    tensor, info = images(kind, C, H, W, N), np.iinfo(kind)
    values = rng.integers(info.min, info.max, (N, C, H, W), kind, endpoint=True)
    spec = SpecResident()
    spec.reserve(TENSORS)
    spec._memory[:] = rng.integers(0, 256, spec._memory.size, np.uint8)
    memory = np.concatenate([spec._memory, np.zeros(TENSORS + OWN, np.uint8)])
    found = unpacking(tensor)
    assert (found.count, found.source.shape) == (count, (N, 16, H, W // count))
    assert len(parts(found.source)) == 1
    packed = pack(values, count)
    rows = packed.reshape(N, 16, H * W // count).transpose(0, 2, 1).reshape(N, -1).view(np.uint8)
    for offset, row in zip(found.source.offsets, rows, strict=True):
        memory[TENSORS + offset - PACKED_AT :][: row.size] = row
    (ran,) = run([found], memory)
    assert sorted(ran) == list(range(ENGINES))
    spec.write(tensor, values)
    np.testing.assert_array_equal(memory[:TENSORS], spec._memory[:TENSORS])


def test_what_reads_images_waits_until_they_are_unpacked():
    tensor = images("int8", 3, 32, 32, 6)
    (ran,) = run([unpacking(tensor), Reduction(u=tensor, v=tensor)], np.zeros(3 << 20, np.uint8))
    for chain in ran.values():
        assert [index for at, index in enumerate(chain) if at == 0 or index != chain[at - 1]] == [0, None, 1]


@pytest.mark.parametrize(
    "tensor",
    [
        images("int16", 3, 32, 32, 8),
        images("int8", 9, 32, 32, 8),  # no two pixels in a vector
        images("int8", 3, 32, 33, 8),
        images("int8", 3, 32, 32, 5),  # few bytes
        images("int8", 3, 32, 32, 0),
    ],
    ids=["int16", "channels", "odd columns", "small", "none"],
)
def test_others_are_sent_as_they_are(tensor):
    assert unpacking(tensor) is None
    assert isinstance(unpacking(images("int8", 3, 32, 32, 6)), Unpacking)
