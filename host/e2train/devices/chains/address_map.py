# SPDX-License-Identifier: Apache-2.0
"""Which physical addresses stand for a flat memory that lies in several parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from e2train.devices.chains.plan import Run
from e2train.devices.resident import DeviceTensor

__all__ = ["AddressMap", "parts"]


class AddressMap:
    """Ranges of a flat memory, each at an address of its own; a later one takes the place of earlier ones."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, int]] = []  # first, end, address of the first; in order, apart

    def put(self, first: int, nbytes: int, address: int) -> None:
        """Let bytes from ``first`` on lie at an address."""
        end = first + nbytes
        kept = [(first, end, address)]
        for start, stop, at in self._ranges:
            kept.append((start, min(stop, first), at))
            kept.append((max(start, end), stop, at + max(end - start, 0)))
        self._ranges = sorted(each for each in kept if each[0] < each[1])

    def translate(self, runs: Sequence[Run]) -> list[Run]:
        """Where runs lie; one that crosses from one range to the next is cut.

        >>> places = AddressMap()
        >>> places.put(0, 256, 4096)
        >>> places.put(64, 64, 8192)
        >>> places.translate([(0, 96), (128, 64)])
        [(4096, 64), (8192, 32), (4224, 64)]
        """
        found = []
        for first, nbytes in runs:
            at, end = bisect_right(self._ranges, first, key=lambda each: each[0]) - 1, first + nbytes
            while first < end:
                start, stop, address = self._ranges[at]
                size = min(end, stop) - first
                found.append((address + first - start, size))
                first, at = first + size, at + 1
        return found


def parts(tensor: DeviceTensor) -> list[slice]:
    """Samples that lie behind each other."""
    apart = np.flatnonzero(np.diff(tensor.offsets) != tensor.sample_bytes) + 1
    edges = [0, *apart.tolist(), tensor.N]
    return [slice(*edge) for edge in pairwise(edges)] if tensor.N else []
