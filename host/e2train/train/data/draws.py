# SPDX-License-Identifier: Apache-2.0
"""Random bits that depend on what they are drawn for alone, for a whole batch at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["below", "keyed_bits"]

Words = NDArray[np.uint64]


def keyed_bits(seed: int, epoch: int, indices: NDArray[np.int64], *, draw: int) -> Words:
    """64 random bits for each index; another ``draw`` gives others.

    >>> keyed_bits(1, 2, np.array([7, 8]), draw=0).tolist()
    [11649801027917851897, 13916974278312268982]
    """
    words = np.zeros(len(indices), np.uint64)
    for key in (seed, draw, epoch):
        words = _mixed(words ^ np.uint64(key))
    return _mixed(words ^ indices.astype(np.uint64))


def below(bits: Words, count: int) -> NDArray[np.int64]:
    """Numbers in 0..count-1 from the high halves of words; none is likelier by more than count in 2**32.

    >>> below(np.array([0, 1 << 63, 2**64 - 1], np.uint64), 9).tolist()
    [0, 4, 8]
    """
    return ((bits >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)


def _mixed(words: Words) -> Words:
    """One step of SplitMix64 from each state (Steele, Lea and Flood, OOPSLA 2014).

    >>> hex(_mixed(np.zeros(1, np.uint64))[0])
    '0xe220a8397b1dcdaf'
    """
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
