# SPDX-License-Identifier: Apache-2.0
"""What plans of all operations share: a frame with the places of its operands and results, nests, splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from e2train.devices.resident import DeviceTensor
from e2train.numerics.blocks import LANES
from e2train.numerics.frames import Header, Kind, Level
from e2train.numerics.frames.layout import HEADER_WORDS, LEVELS

__all__ = [
    "KINDS",
    "MOST_PIXELS",
    "REACH",
    "Loop",
    "Pace",
    "PlannedFrame",
    "Range",
    "Run",
    "Stripe",
    "chain_cycles",
    "nest",
    "pace",
    "paced_cycles",
    "ranges",
    "shares",
]

Run = tuple[int, int]  # address in the memory and bytes
Range = tuple[int, int]  # first, end

KINDS = {"uint8": Kind.UINT8, "int8": Kind.INT8, "int16": Kind.INT16}
_DESCRIPTOR_CYCLES = 41  # of the DMA's port for them
_OWN_PIECES = 2  # header, and what the host sends along
_FRAME_CYCLES = 100  # what a frame costs besides
MOST_PIXELS = (1 << 16) - 1  # of a plane that sums are reported of
REACH = 500  # positions that the windows of a frame span: net deltas have ten bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedFrame:
    """A frame: what follows its header, from the memory or from the host, and where its results go.

    Without places for them the results come back to the host. ``tag`` says what they are to the planner;
    frames that differ in ``apart`` never report together.
    """

    header: Header
    sources: tuple[Sequence[Run] | NDArray[Any], ...]
    results: Sequence[Run] = ()
    sample: int = 0  # the first one
    tag: Any = None
    apart: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One loop by absolute strides: rows and columns, and addresses of x and w."""

    limit: int
    dy: int = 0
    dx: int = 0
    dxa: int = 0
    dwa: int = 0


class Stripe:
    """Rows and blocks of a tensor, of which each frame takes some samples.

    Samples follow each other, or with ``by_block`` blocks do, with all samples of a frame in each.
    """

    def __init__(self, tensor: DeviceTensor, *, rows: Range, blocks: Range, by_block: bool = False) -> None:
        (first, end), (low, high) = rows, blocks
        pixel = LANES * np.dtype(tensor.kind).itemsize
        plane = tensor.H * tensor.W * pixel
        apart = by_block and high - low > 1
        if end - first == tensor.H and not apart:
            pieces = [(low * plane, (high - low) * plane)]
        else:
            start, size = first * tensor.W * pixel, (end - first) * tensor.W * pixel
            pieces = [(block * plane + start, size) for block in range(low, high)]
        offsets = tensor.offsets.tolist()
        turns = [[piece] for piece in pieces] if apart else [pieces]
        self._turns = [[(offset + at, size) for offset in offsets for at, size in turn] for turn in turns]
        self._each = len(turns[0])  # runs of a sample in each turn

    def runs(self, samples: Range) -> list[Run]:
        """Where some of the samples lie."""
        own = slice(samples[0] * self._each, samples[1] * self._each)
        if len(self._turns) == 1:
            return self._turns[0][own]
        return [run for turn in self._turns for run in turn[own]]


def nest(loops: Iterable[Loop]) -> tuple[Level, ...]:
    """Levels of a header, innermost first: deltas take back what the inner loops have travelled."""
    levels = []
    dy = dx = dxa = dwa = 0
    for loop in loops:
        level = Level(
            limit=loop.limit, dy=loop.dy - dy, dx=loop.dx - dx, dxa=loop.dxa - dxa, dwa=loop.dwa - dwa
        )
        levels.append(level if loop.limit > 1 else Level())
        turns = loop.limit - 1
        dy, dx = dy + turns * loop.dy, dx + turns * loop.dx
        dxa, dwa = dxa + turns * loop.dxa, dwa + turns * loop.dwa
    return (*levels, *[Level()] * (LEVELS - len(levels)))


def ranges(whole: int, size: int) -> list[Range]:
    """0..whole in parts of at most ``size``.

    >>> ranges(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(first, min(first + size, whole)) for first in range(0, whole, size)]


def shares(whole: int) -> list[int]:
    """Sizes of equal parts, from the whole down to one.

    >>> shares(7)
    [7, 4, 3, 2, 1]
    """
    return sorted({-(-whole // parts) for parts in range(1, whole + 1)}, reverse=True)


def chain_cycles(
    frames: int, *, engines: int, words_in: int, iterations: int, words_out: int, pieces: int
) -> int:
    """Estimate of what so many equal frames take among others: one loads, one computes and one is stored."""
    descriptors = _DESCRIPTOR_CYCLES * (pieces + _OWN_PIECES)
    longest = max(words_in + HEADER_WORDS, iterations, words_out, descriptors)
    return -(-frames // engines) * (longest + _FRAME_CYCLES)


class Pace(NamedTuple):
    """Estimates of cycles that a frame keeps the engine's processes busy."""

    load: int  # or descriptors be fetched, where that takes longer
    compute: int  # or results be sent
    report: int


def pace(frame: PlannedFrame, *, holds: bool) -> Pace:
    """Those of one frame of a chain; ``holds`` says that its report is held back."""
    header = frame.header
    pieces = sum(len(part) for part in frame.sources if not isinstance(part, np.ndarray))
    descriptors = pieces + _OWN_PIECES + len(frame.results) + (not holds)
    words_out = header.result_words if holds else header.reply_words
    return Pace(
        load=max(header.frame_words, _DESCRIPTOR_CYCLES * descriptors) + _FRAME_CYCLES,
        compute=max(header.iterations, words_out) + _FRAME_CYCLES,
        report=words_out - header.result_words,
    )


def paced_cycles(frames: Iterable[Pace]) -> int:
    """Estimate of what frames in order take: one loads while the one before is computed."""
    loaded = computed = before = report = 0
    for frame in frames:
        loaded = max(loaded, before) + frame.load
        before, computed = computed, max(loaded, computed) + frame.compute
        report = frame.report
    return computed + report
