# SPDX-License-Identifier: Apache-2.0
"""A plan of a device's memory: buffers whose lives do not overlap share bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from e2train.devices.resident import ALIGNMENT

__all__ = ["Buffer", "place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Bytes that are needed from one moment to another, both included."""

    name: str
    nbytes: int
    first: int
    last: int


def place(buffers: Iterable[Buffer]) -> tuple[dict[str, int], int]:
    """Where each buffer starts, and how many bytes all of them take.

    The largest first, each at the lowest place that is free during its life.

    >>> a = Buffer(name="a", nbytes=64, first=0, last=1)
    >>> place([a, Buffer(name="b", nbytes=64, first=2, last=3), Buffer(name="c", nbytes=64, first=1, last=2)])
    ({'a': 0, 'b': 0, 'c': 64}, 128)
    """
    placed: list[tuple[int, int, Buffer]] = []  # start, end
    for buffer in sorted(buffers, key=lambda each: -each.nbytes):
        start, size = 0, -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
        alive = [each for each in placed if each[2].first <= buffer.last and buffer.first <= each[2].last]
        for taken, end, _ in sorted(alive, key=lambda each: each[0]):
            if start + size <= taken:
                break
            start = max(start, end)
        placed.append((start, start + size, buffer))
    return {buffer.name: start for start, _, buffer in placed}, max((end for _, end, _ in placed), default=0)
