# SPDX-License-Identifier: Apache-2.0
"""Which physical addresses stand for a flat memory that lies in several parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from e2train.devices.chains.plan import Run
from e2train.devices.protocol import DeviceError
from e2train.devices.resident import DeviceTensor

__all__ = ["OWN", "AddressMap", "parts"]

OWN = 1 << 61
"""Beyond all of the flat memory: a run at ``OWN | address`` lies at that address of the DMA."""

_Column = NDArray[np.int64]


class AddressMap:
    """Ranges of a flat memory, each at an address of its own; a later one takes the place of earlier ones."""

    def __init__(self) -> None:
        # First, end, address of the first; in order, apart.
        self._ranges: list[tuple[int, int, int]] = [(OWN, 2 * OWN - 1, 0)]
        self._columns = _columns(self._ranges)

    @property
    def state(self) -> tuple[tuple[int, int, int], ...]:
        """The same where all lies where it lay before."""
        return tuple(self._ranges)

    def put(self, first: int, nbytes: int, address: int) -> None:
        """Let bytes from ``first`` on lie at an address."""
        end = first + nbytes
        kept = [(first, end, address)]
        for start, stop, at in self._ranges:
            kept.append((start, min(stop, first), at))
            kept.append((max(start, end), stop, at + max(end - start, 0)))
        self._ranges = _joined(sorted(each for each in kept if each[0] < each[1]))
        self._columns = _columns(self._ranges)

    def translate(self, addresses: _Column, nbytes: _Column) -> tuple[_Column, _Column]:
        """Where runs lie; one that crosses from one range to the next is cut.

        >>> places = AddressMap()
        >>> places.put(0, 256, 4096)
        >>> places.put(64, 64, 8192)
        >>> found = places.translate(np.array([0, 128, OWN | 64]), np.array([96, 64, 8]))
        >>> [column.tolist() for column in found]
        [[4096, 8192, 4224, 64], [64, 32, 64, 8]]

        Raises: DeviceError for a run that lies in no range.
        """
        firsts, ends, shifts = self._columns
        at = np.searchsorted(firsts, addresses, side="right") - 1
        inside = (at >= 0) & (addresses + nbytes <= ends[at])
        if inside.all():
            return addresses + shifts[at], nbytes
        cut = np.array(list(self._cut(addresses.tolist(), nbytes.tolist())), np.int64)
        return cut[:, 0], cut[:, 1]

    def _cut(self, addresses: list[int], nbytes: list[int]) -> Iterator[Run]:
        for first, size in zip(addresses, nbytes, strict=True):
            at, end = bisect_right(self._ranges, first, key=lambda each: each[0]) - 1, first + size
            while first < end:
                start, stop, address = self._ranges[at] if 0 <= at < len(self._ranges) else (0, 0, 0)
                if not start <= first < stop:
                    raise DeviceError(f"no memory of the board stands for the address {first:#x}")
                part = min(end, stop) - first
                yield address + first - start, part
                first, at = first + part, at + 1


def _joined(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbours whose places are neighbours as one."""
    joined: list[tuple[int, int, int]] = []
    for first, end, address in ranges:
        if joined and joined[-1][1] == first and joined[-1][2] - joined[-1][0] == address - first:
            first, _, address = joined.pop()
        joined.append((first, end, address))
    return joined


def _columns(ranges: Sequence[tuple[int, int, int]]) -> tuple[_Column, _Column, _Column]:
    """Firsts, ends, and what takes addresses to their places."""
    firsts, ends, addresses = np.array(ranges, np.int64).T
    return firsts, ends, addresses - firsts


def parts(tensor: DeviceTensor) -> list[slice]:
    """Samples that lie behind each other."""
    apart = np.flatnonzero(np.diff(tensor.offsets) != tensor.sample_bytes) + 1
    edges = [0, *apart.tolist(), tensor.N]
    return [slice(*edge) for edge in pairwise(edges)] if tensor.N else []
