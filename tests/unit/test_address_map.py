# SPDX-License-Identifier: Apache-2.0
"""Flat memory in parts: where its bytes lie, against a list of the address of each byte."""

from __future__ import annotations

import numpy as np
import pytest
from e2train.devices.chains.address_map import AddressMap
from e2train.devices.protocol import DeviceError

SIZE = 40


def test_every_byte_is_where_it_was_put_last(rng: np.random.Generator) -> None:
    for _ in range(60):
        places, want = AddressMap(), np.arange(SIZE) + 1000
        places.put(0, SIZE, 1000)
        for turn in range(6):
            first, end = sorted(rng.integers(0, SIZE + 1, 2).tolist())
            places.put(first, end - first, 10_000 * (turn + 1))
            want[first:end] = 10_000 * (turn + 1) + np.arange(end - first)
        firsts = np.arange(SIZE)
        ends = rng.integers(firsts, SIZE) + 1
        found = list(zip(*places.translate(firsts, ends - firsts), strict=True))
        lies = np.concatenate([np.arange(address, address + nbytes) for address, nbytes in found])
        asked = [want[first:end] for first, end in zip(firsts, ends, strict=True)]
        np.testing.assert_array_equal(lies, np.concatenate(asked))
        assert all(nbytes > 0 for _, nbytes in found)


@pytest.mark.parametrize("run", [(SIZE - 8, 16), (SIZE, 8), (-8, 8)], ids=str)
def test_what_lies_nowhere_is_refused(run: tuple[int, int]) -> None:
    places = AddressMap()
    places.put(0, SIZE, 1000)
    whole = np.array([0, run[0]]), np.array([8, run[1]])
    with pytest.raises(DeviceError, match=r"^no memory of the board stands for the address -?0x"):
        places.translate(*whole)


def test_the_state_is_the_same_where_all_lies_as_before() -> None:
    places = AddressMap()
    places.put(0, SIZE, 1000)
    state = places.state
    places.put(8, 8, 1008)
    assert places.state == state
    places.put(8, 8, 5000)
    assert places.state != state
    places.put(8, 8, 1008)
    assert places.state == state
