# SPDX-License-Identifier: Apache-2.0
"""Flat memory in parts: where its bytes lie, against a list of the address of each byte."""

from __future__ import annotations

import numpy as np
from e2train.devices.chains.address_map import AddressMap

SIZE = 40


def test_every_byte_is_where_it_was_put_last(rng: np.random.Generator) -> None:
    for _ in range(60):
        places, want = AddressMap(), np.arange(SIZE) + 1000
        places.put(0, SIZE, 1000)
        for turn in range(6):
            first, end = sorted(rng.integers(0, SIZE + 1, 2).tolist())
            places.put(first, end - first, 10_000 * (turn + 1))
            want[first:end] = 10_000 * (turn + 1) + np.arange(end - first)
        for first in range(SIZE):
            end = int(rng.integers(first, SIZE)) + 1
            found = places.translate([(first, end - first)])
            told = np.concatenate([np.arange(address, address + nbytes) for address, nbytes in found])
            np.testing.assert_array_equal(told, want[first:end])
            assert all(nbytes > 0 for _, nbytes in found)
