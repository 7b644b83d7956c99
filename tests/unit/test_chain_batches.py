# SPDX-License-Identifier: Apache-2.0
"""Operations that share chains: in order, apart where one reads what another wrote, few where nobody asks."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from e2train.config import load_config
from e2train.devices.chains.batch import BARRIER_BYTES, barrier, join
from e2train.devices.chains.jobs import plan_job
from e2train.devices.chains.transfer import scratch_bytes
from e2train.devices.resident import Affine, DeviceTensor, Reduction

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
