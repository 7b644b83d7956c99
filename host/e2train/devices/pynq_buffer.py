# SPDX-License-Identifier: Apache-2.0
"""Contiguous buffers of a PYNQ board: their sizes, and what stands at the begin of those that are sent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import DeviceError
from e2train.packing.descriptors import DESCRIPTOR_BYTES

__all__ = ["SMALLEST_BUFFER", "Buffer", "buffer_bytes", "chains_at", "firsts_bytes"]

SMALLEST_BUFFER = 8 << 10
"""Bytes of a buffer: smaller ones share pages, which PYNQ.remote flushes wrongly."""
_LARGEST_BUFFER = 48 << 20  # of those whose content is moved: above it PYNQ.remote is slow


class Buffer:
    """A pynq buffer, its bytes as this program sees them, and its physical address."""

    __slots__ = ("address", "array", "memory")

    def __init__(self, array: Any, address: int) -> None:
        self.array = array
        self.memory: NDArray[np.uint8] = np.asarray(array)
        self.address = address


def firsts_bytes(engines: int) -> int:
    """Bytes of the first descriptors of each engine's channels, at the begin of a buffer that is sent."""
    return 2 * engines * DESCRIPTOR_BYTES


def chains_at(engines: int) -> int:
    """Where the rest of the chains begins: behind these, and descriptors that start several engines.

    >>> chains_at(1), chains_at(4)
    (128, 1024)
    """
    return firsts_bytes(engines) * (2 if engines > 1 else 1)


def buffer_bytes(nbytes: int) -> int:
    """What a buffer for so many bytes has: the next of 8, 9, ... 15, 16, 18, ... KiB.

    >>> [buffer_bytes(size) >> 10 for size in (1, 8193, 16385)]
    [8, 9, 18]

    Raises: DeviceError when there is none.
    """
    if nbytes > _LARGEST_BUFFER:
        raise DeviceError(f"a transfer of {nbytes} bytes is more than the {_LARGEST_BUFFER} of a buffer")
    unit = SMALLEST_BUFFER // 8
    while 16 * unit < nbytes:
        unit *= 2
    return max(SMALLEST_BUFFER, -(-nbytes // unit) * unit)
