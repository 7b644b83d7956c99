# SPDX-License-Identifier: Apache-2.0
"""Operations shared out over engines: each has its own samples, and none touches what another works on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from e2train.config import load_config
from e2train.devices.chains.rounds import plan_rounds, shares_of
from e2train.devices.resident import Affine, DeviceTensor, Reduction

CONFIG = replace(load_config("pynq_z2"), engines=3)
ONES, ZEROS = np.ones(16, np.int64), np.zeros(16, np.int64)


def tensor(start: int, samples: int = 7, step: int = 1024) -> DeviceTensor:
    offsets = start + step * np.arange(samples, dtype=np.int64)
    return DeviceTensor(kind="int16", C=16, H=4, W=8, offsets=offsets)


def affine(u: DeviceTensor, out: DeviceTensor) -> Affine:
    return Affine(u=u, out=out, a=ONES, b=ZEROS, d=ZEROS, shift=0)


def rounds(*calls) -> list[list[list[int]]]:
    """Per round and engine the operations that have frames there."""
    planned = plan_rounds(calls, CONFIG, room=1 << 20)
    return [
        [sorted({index for index, _ in chain if index is not None}) for chain in each.values()]
        for each in planned.rounds
    ]


@pytest.mark.parametrize(
    ("samples", "engines", "want"), [(7, 3, [0, 2, 4]), (2, 3, [0, 1]), (1, 3, [0]), (0, 3, [0]), (7, 1, [0])]
)
def test_shares_are_about_equal_and_whole(samples, engines, want):
    call = affine(tensor(0, samples), tensor(8192, samples))
    shares = shares_of(call, engines)
    assert [first for first, _ in shares] == want
    for name in ("u", "out"):
        offsets = np.concatenate([getattr(share, name).offsets for _, share in shares])
        np.testing.assert_array_equal(offsets, getattr(call, name).offsets)
    sizes = [share.out.N for _, share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_operations_on_the_same_samples_need_one_round():
    a, b, c = (tensor(start) for start in (0, 8192, 16384))
    assert rounds(affine(a, b), affine(b, c), Reduction(u=b, v=c)) == [[[0, 1, 2]] * 3]
    assert rounds(affine(a, b), affine(b, b)) == [[[0, 1]] * 3]  # in place


def test_a_round_ends_where_engines_would_meet():
    a, b, c = (tensor(start) for start in (0, 8192, 16384))
    apart = [[[0]] * 3, [[1]] * 3]
    turned = replace(b, offsets=b.offsets[::-1].copy())
    assert rounds(affine(a, b), affine(turned, c)) == apart  # read what another one wrote
    assert rounds(affine(b, c), affine(a, turned)) == apart  # write what another one reads
    assert rounds(affine(a, b), affine(c, turned)) == apart  # both write
    assert rounds(affine(b, a), affine(turned, c)) == [[[0, 1]] * 3]  # both read
    few = b.take(np.array([4, 5, 6]))
    assert rounds(affine(a, b), affine(few, c.take(np.arange(3)))) == apart  # other shares of fewer samples


def test_frames_say_to_which_samples_of_the_whole_their_sums_belong():
    call = Reduction(u=tensor(0), v=tensor(8192), per_sample=True)
    (found,) = plan_rounds([call], CONFIG, room=1 << 20).rounds
    samples = sorted(frame.tag[0] for chain in found.values() for _, frame in chain)
    assert samples[0][0] == 0
    assert samples[-1][1] == 7
    assert all(before[1] == after[0] for before, after in pairwise(samples))
    assert {engine: chain[0][1].tag[0][0] for engine, chain in found.items()} == {0: 0, 1: 2, 2: 4}
