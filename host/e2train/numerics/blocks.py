# SPDX-License-Identifier: Apache-2.0
"""NCHW16c, the layout of tensors in a device's memory: per sample, per 16 channels, rows of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LANES", "block_count", "from_blocks", "to_blocks"]

LANES = 16  # channels of a block, side by side in memory


def block_count(channels: int) -> int:
    """Blocks that so many channels take; the lanes left over hold zeros.

    >>> [block_count(channels) for channels in (1, 16, 17)]
    [1, 1, 2]
    """
    return -(-channels // LANES)


def to_blocks(values: NDArray[Any]) -> NDArray[Any]:
    """Shapes: (N, C, H, W) to (N, blocks, H, W, 16).

    >>> to_blocks(np.arange(3).reshape(1, 3, 1, 1))[0, 0, 0, 0, :5].tolist()
    [0, 1, 2, 0, 0]
    """
    N, C, H, W = values.shape
    blocks = block_count(C)
    found = np.zeros((N, blocks, H, W, LANES), values.dtype)
    for channel in range(C):
        block, lane = divmod(channel, LANES)
        found[:, block, :, :, lane] = values[:, channel]
    return found


def from_blocks(blocks: NDArray[Any], channels: int) -> NDArray[Any]:
    """Shapes: (N, blocks, H, W, 16) to (N, C, H, W).

    >>> x = np.arange(40).reshape(1, 20, 2, 1)
    >>> bool((from_blocks(to_blocks(x), 20) == x).all())
    True
    """
    N, count, H, W, _ = blocks.shape
    flat = blocks.transpose(0, 1, 4, 2, 3).reshape(N, count * LANES, H, W)
    return np.ascontiguousarray(flat[:, :channels])
