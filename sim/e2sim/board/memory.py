# SPDX-License-Identifier: Apache-2.0
"""A board's memory: contiguous buffers in DDR, each with the processor's cached copy of it.

The DMA sees the DDR, programs see the cache: what is not flushed or invalidated differs, as on a board.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffer", "ContiguousMemory", "NoMemoryError"]

_PAGE_BYTES = 4096


class NoMemoryError(RuntimeError):
    """There is no contiguous room of that size."""


@dataclass(slots=True, kw_only=True, eq=False)
class Buffer:
    """One allocation."""

    address: int  # physical
    ddr: NDArray[np.uint8]
    cache: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.cache.size)

    def flush(self) -> None:
        """Write the cache back."""
        self.ddr[:] = self.cache

    def invalidate(self) -> None:
        """Fetch the cache again."""
        self.cache[:] = self.ddr


class ContiguousMemory:
    """The memory that the kernel keeps for contiguous buffers; first fit, in whole pages."""

    def __init__(self, *, base: int, size: int) -> None:
        self.base = base
        self.ddr = np.zeros(size, np.uint8)  # pages that nobody touches cost nothing
        self._buffers: list[Buffer] = []

    @property
    def used_bytes(self) -> int:
        """The sum of all buffers."""
        return sum(buffer.size for buffer in self._buffers)

    def allocate(self, size: int) -> Buffer:
        """A buffer of ``size`` bytes.

        Raises: NoMemoryError.
        """
        if size < 1:
            raise NoMemoryError(f"a buffer must have at least one byte, not {size}")
        at = self.base
        for buffer in self._buffers:
            if buffer.address - at >= size:
                break
            at = buffer.address + -(-buffer.size // _PAGE_BYTES) * _PAGE_BYTES
        if at + size > self.base + self.ddr.size:
            raise NoMemoryError(f"no {size} contiguous bytes left of {self.ddr.size}")
        start = at - self.base
        view = self.ddr[start : start + size]
        buffer = Buffer(address=at, ddr=view, cache=np.zeros(size, np.uint8))
        bisect.insort(self._buffers, buffer, key=lambda other: other.address)
        return buffer

    def free(self, buffer: Buffer) -> None:
        """Give a buffer back."""
        self._buffers.remove(buffer)
