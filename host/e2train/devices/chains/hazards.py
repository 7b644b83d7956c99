# SPDX-License-Identifier: Apache-2.0
"""Which frames of an operation wait for which frames of those before it, by the memory that they touch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from e2train.devices.chains.operands import Work, operands, results
from e2train.devices.chains.plan import PlannedFrame, Range, Run
from e2train.devices.resident import DeviceTensor

__all__ = ["Waits", "find_waits"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waits:
    """How many frames of another operation come before each frame of one."""

    other: int
    counts: Sequence[int]
    written: bool  # and their results are read


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pieces:
    """Pieces of memory that the frames of an operation touch, sorted by their first bytes."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    frames: NDArray[np.int64]  # numbers

    @classmethod
    def of(cls, runs: Sequence[Sequence[Run]]) -> _Pieces:
        """Those of each frame."""
        sizes = [len(each) for each in runs]
        flat = np.fromiter(chain.from_iterable(chain.from_iterable(runs)), np.int64, 2 * sum(sizes))
        starts, order = flat[::2], np.argsort(flat[::2], kind="stable")
        return cls(
            starts=starts[order],
            ends=(starts + flat[1::2])[order],
            frames=np.repeat(np.arange(len(runs)), sizes)[order],
        )

    def first_ones(self, other: _Pieces, frames: int) -> list[int]:
        """How many frames of the other one there are up to the last that touches what each of these does."""
        counts = np.zeros(frames, np.int64)
        low = np.searchsorted(np.maximum.accumulate(other.ends), self.starts, side="right")
        high = np.searchsorted(other.starts, self.ends, side="left")
        meet = low < high
        if meet.any():
            between = np.stack([low[meet], high[meet]], axis=1).reshape(-1)
            last = np.maximum.reduceat(np.append(other.frames, 0), between)[::2]
            np.maximum.at(counts, self.frames[meet], last + 1)
        found: list[int] = counts.tolist()
        return found


class _Touched:
    """What the frames of an operation read and write."""

    def __init__(self, call: Work, frames: Sequence[PlannedFrame]) -> None:
        self.reads = [_span(tensor) for tensor in operands(call) if tensor.N]
        self.writes = [_span(tensor) for tensor in results(call) if tensor.N]
        self._frames = frames
        self._pieces: dict[bool, _Pieces] = {}

    def pieces(self, *, written: bool) -> _Pieces:
        """Of what is written, or of what is read."""
        if written not in self._pieces:
            runs = [frame.results if written else list(_read(frame)) for frame in self._frames]
            self._pieces[written] = _Pieces.of(runs)
        return self._pieces[written]

    def waits(self, number: int, other: _Touched) -> Iterator[Waits]:
        """For frames of the other one, which has this number and comes before it.

        What was written is read; what was read is written, or what was written is written again.
        """
        for mine, theirs in ((False, True), (True, False), (True, True)):
            own, its = (self.writes if mine else self.reads), (other.writes if theirs else other.reads)
            if _meet(own, its):
                counts = self.pieces(written=mine).first_ones(other.pieces(written=theirs), len(self._frames))
                yield Waits(other=number, counts=counts, written=theirs and not mine)


def find_waits(calls: Sequence[Work], frames: Sequence[Sequence[PlannedFrame]]) -> list[list[Waits]]:
    """For each operation which frames of those before it its own ones wait for."""
    touched = [_Touched(call, own) for call, own in zip(calls, frames, strict=True)]
    return [
        [wait for other in range(number) for wait in each.waits(other, touched[other])]
        for number, each in enumerate(touched)
    ]


def _read(frame: PlannedFrame) -> Iterable[Run]:
    for part in frame.sources:
        if not isinstance(part, np.ndarray):
            yield from part


def _span(tensor: DeviceTensor) -> Range:
    return tensor.span[:2]


def _meet(some: Sequence[Range], others: Sequence[Range]) -> bool:
    return any(first < end and start < stop for first, stop in some for start, end in others)
