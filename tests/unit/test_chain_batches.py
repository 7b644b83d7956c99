# SPDX-License-Identifier: Apache-2.0
"""Operations that share chains: in order, apart where one reads what another wrote, few where nobody asks."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
import pytest
from e2train.config import load_config
from e2train.devices.chains.batch import BARRIER_BYTES, barrier, join
from e2train.devices.chains.jobs import plan_job
from e2train.devices.chains.transfer import scratch_bytes
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Reduction, WeightGradient

CONFIG = load_config("pynq_z2")
NONE, LAST = np.zeros(0, np.int64), np.ones(1, np.int64)
ONES, ZEROS = np.ones(16, np.int64), np.zeros(16, np.int64)


def tensor(start: int, samples: int = 2) -> DeviceTensor:
    offsets = start + 1024 * np.arange(samples, dtype=np.int64)
    return DeviceTensor(kind="int16", C=16, H=4, W=8, offsets=offsets)


def wide(start: int) -> DeviceTensor:
    """Samples that fill a buffer."""
    offsets = start + (1 << 16) * np.arange(2, dtype=np.int64)
    return DeviceTensor(kind="int16", C=16, H=64, W=32, offsets=offsets)


def affine(u: DeviceTensor, out: DeviceTensor) -> Affine:
    return Affine(u=u, out=out, a=ONES, b=ZEROS, d=ZEROS, shift=0)


def chains(*calls, room: int = 1 << 20) -> list[str]:
    """Chains as words: the indices of operations with frames in them, b for barriers."""
    jobs = [plan_job(call, CONFIG) for call in calls]
    found = join(calls, jobs, CONFIG, room=room)
    return [
        "".join("b" if each is None else str(each) for each, _ in groupby(chain, _index)) for chain in found
    ]


def _index(step):
    return step[0]


def test_only_what_reads_fresh_results_waits():
    a, b, c, d = (tensor(start) for start in (0, 4096, 8192, 12288))
    assert chains(affine(a, b), affine(a, c)) == ["01"]
    assert chains(affine(a, b), affine(b, c)) == ["0b1"]
    assert chains(affine(a, b), affine(c, a)) == ["01"]  # what was read may be overwritten
    assert chains(affine(a, b), affine(c, b)) == ["01"]  # results arrive in order
    assert chains(affine(a, b), affine(a, c), Reduction(u=b, v=c), Reduction(u=c, v=d)) == ["01b23"]
    assert chains(affine(a, b), affine(a, c), affine(c, d), Reduction(u=d, v=b)) == ["01b2b3"]
    assert chains(affine(a.take(NONE), b.take(NONE)), affine(b, c)) == ["1"]  # no samples, no frames
    assert chains(affine(a.take(LAST), b.take(LAST)), affine(b, c)) == ["0b1"]


def test_a_chain_that_is_full_ends_and_is_a_barrier_itself():
    a, b, c = (wide(start) for start in (0, 1 << 20, 2 << 20))  # a frame for each sample
    one = sum(map(scratch_bytes, plan_job(affine(a, b), CONFIG).frames))
    between = sum(map(scratch_bytes, barrier(CONFIG)))
    assert chains(affine(a, b), affine(b, c), room=2 * one + between) == ["0b1"]
    assert chains(affine(a, b), affine(b, c), room=2 * one + between - 1) == ["0b1", "1"]
    assert chains(affine(a, b), affine(b, c), room=one + 1) == ["0", "1"]


def test_a_barrier_is_longer_than_what_is_fetched_ahead():
    frames = barrier(CONFIG)
    assert len(frames) == 5  # as many as the engine works on at once, as test_barrier.py counts
    assert frames[-1].header.payload_words >= 2048
    assert not any(frame.results for frame in frames)
    read = [
        run for frame in frames for part in frame.sources if not isinstance(part, np.ndarray) for run in part
    ]
    assert max(address + nbytes for address, nbytes in read) == BARRIER_BYTES


def test_a_batch_of_nothing_is_nothing():
    assert chains() == []


def many(start: int, samples: int) -> DeviceTensor:
    """Samples of which two fill a buffer."""
    offsets = start + (1 << 14) * np.arange(samples, dtype=np.int64)
    return DeviceTensor(kind="uint8", C=16, H=32, W=32, offsets=offsets)


def test_what_was_written_long_before_needs_no_barrier():
    a, b, c = (many(start, 20) for start in (0, 1 << 20, 2 << 20))
    assert len(plan_job(affine(a, b), CONFIG).frames) == 10
    assert chains(affine(a, b), affine(b, c)) == ["01"]
    few = np.arange(10)
    assert chains(affine(a.take(few), b.take(few)), affine(b.take(few), c.take(few))) == ["0b1"]


def test_what_loads_long_comes_behind_what_computes_long():
    """A convolution and a sum that have nothing to do with each other take turns."""
    u, v, w, y, z = (many(start << 20, 8) for start in range(5))
    calls = [convolution(u, y), Reduction(u=v, v=w), affine(w, z)]
    (chain,) = joined(calls, interleave=True)
    owners = [owner for owner, _ in chain]
    assert owners[0] == 0
    assert sorted(owners[:8]) == [0, 0, 0, 0, 1, 1, 2, 2]
    assert all(one != other for one, other in pairwise(owners[:8]))
    assert [owner for owner, _ in joined(calls)[0]] == sorted(owners)


@pytest.mark.parametrize("interleave", [False, True])
def test_no_frame_comes_too_early(interleave, rng):
    """Of random operations on tensors of which many overlap; every byte that frames touch is looked at."""
    waited = 0
    for _ in range(12):
        calls = [random_call(rng) for _ in range(6)]
        found = joined(calls, room=1 << 19, interleave=interleave)
        owners = [owner for chain in found for owner, _ in chain if owner is not None]
        frames = [len(plan_job(call, CONFIG).frames) for call in calls]
        assert [owners.count(number) for number in range(len(calls))] == frames
        waited += check_order(found)
    assert waited > 40


def convolution(x: DeviceTensor, y: DeviceTensor) -> Convolution:
    w = np.ones((16, 16, 3, 3), np.int8)
    y = replace(y, kind="int8")
    return Convolution(
        mode="forward", source=x, destination=y, w=w, stride=(1, 1), padding=(1, 1, 1, 1), shift=0
    )


def random_call(rng: np.random.Generator):
    """On samples of a small memory, in any order."""

    def drawn(samples: int) -> DeviceTensor:
        tensor = many(int(rng.integers(6)) << 17, samples)
        return tensor.take(rng.permutation(samples) if rng.integers(2) else np.arange(samples))

    kind, samples = rng.integers(4), int(rng.integers(1, 13))
    u, v, w = (drawn(samples) for _ in range(3))
    if kind == 0:
        return Reduction(u=u, v=v, mask=w)
    if kind == 1:
        gy = replace(v, kind="int8")
        return WeightGradient(x=u, gy=gy, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))
    return convolution(u, v) if kind == 2 else affine(u, w)


def joined(calls, *, room: int = 1 << 20, interleave: bool = False):
    jobs = [plan_job(call, CONFIG, grouped=not interleave) for call in calls]
    return list(join(calls, jobs, CONFIG, room=room, interleave=interleave))


def check_order(found) -> int:
    """How many frames wait for one of another operation, all of them long enough."""
    placed = [
        (chain, place, owner, frame)
        for chain, steps in enumerate(found)
        for place, (owner, frame) in enumerate(steps)
        if owner is not None
    ]
    starts = [
        np.concatenate([[0], np.cumsum([frame.header.frame_words for _, frame in steps])]) for steps in found
    ]
    waited = 0
    for now, (chain, place, owner, frame) in enumerate(placed):
        for before, (its_chain, its_place, its_owner, other) in enumerate(placed):
            if its_owner >= owner:
                continue
            reads = touch(read(frame), other.results)
            if reads or touch(frame.results, read(other)) or touch(frame.results, other.results):
                assert before < now
            if reads and chain == its_chain:
                waited += 1
                left = its_place + 5 + (found[chain][its_place + 1][0] == its_owner)  # holds its report
                assert place > left
                assert starts[chain][place] - starts[chain][left] >= 2048
    return waited


def read(frame):
    return [run for part in frame.sources if not isinstance(part, np.ndarray) for run in part]


def touch(some, others) -> bool:
    return any(at < its + size and its < at + n for at, n in some for its, size in others)


def test_not_all_operations_of_a_long_batch_overlap():
    """Else all of them would end in barriers."""
    tensors = [many(start << 20, 20) for start in range(31)]
    calls = [affine(u, out) for u, out in pairwise(tensors)]
    (chain,) = joined(calls, room=1 << 22, interleave=True)
    owners = [owner for owner, _ in chain]
    assert owners.count(None) <= 5 * 8
    begun = {owner: owners.index(owner) for owner in range(30)}
    ended = {owner: len(owners) - owners[::-1].index(owner) for owner in range(30)}
    assert all(begun[later] >= ended[later - 8] for later in range(8, 30))
