# SPDX-License-Identifier: Apache-2.0
"""Partial sums of a weight gradient that stay on the board, which adds them up before they come to the host.

Frames whose sums belong together write them next to each other. The next round begins with frames that add
them byte by byte: a convolution whose weights are an identity, summed over the parts. A sum of bytes takes
two, so that adding pays from three parts on. The host puts the sums of bytes together again.

By then all engines have written, and nothing waits for them. Two halves of the memory take turns: while the
parts in one are added up, those of the next operations go to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.chains.jobs import Job
from e2train.devices.chains.operands import Work
from e2train.devices.chains.plan import Loop, PlannedFrame, nest, ranges
from e2train.devices.chains.replies import FrameReplies
from e2train.devices.protocol import StepLostError
from e2train.devices.resident import WeightGradient
from e2train.numerics.blocks import LANES
from e2train.numerics.bounds import PAIRED_GRAD_WEIGHT_TERMS
from e2train.numerics.frames import Header, Kind, Mode
from e2train.numerics.rounding import Ints

__all__ = ["SUMS_AT", "SUMS_BYTES", "Adding", "PartialSums", "Parts", "SumsLater"]

SUMS_AT = 1 << 44
"""Where partial sums stand in the flat memory: behind all tensors."""
SUMS_BYTES = 8 << 20
"""Of a board's memory, for partial sums."""

_HALF = SUMS_BYTES // 2
_WORTH_BYTES = 256 << 10  # of an operation: to fetch less costs no more than a further round may
_FEWEST, _MOST = 3, 32  # parts; adding more takes many short pieces
_WORD_BYTES = 8
_WORD = (1 << 64) - 1
_IDENTITY = np.eye(LANES, dtype=np.int8)

Adding = tuple[PlannedFrame, int, int]
"""A frame that adds up parts, their number among those that are due, and the first of their pixels."""


@dataclass(slots=True, kw_only=True, eq=False)
class Parts:
    """Partial sums next to each other, all of the same results."""

    at: int
    frames: list[PlannedFrame] = field(default_factory=list)  # that write them
    found: dict[int, NDArray[np.int16]] = field(default_factory=dict)  # sums of bytes by the first pixel
    wanted: int = 0  # of these

    @property
    def nbytes(self) -> int:
        """Of one part."""
        return _bytes(self.frames[0])

    @property
    def is_whole(self) -> bool:
        """Whether all sums are there."""
        return len(self.found) == self.wanted > 0

    def again(self) -> Parts:
        """The same parts, to be written once more."""
        return Parts(at=self.at, frames=self.frames)

    def whole(self, written: int) -> FrameReplies:
        """The sums of all parts, as if one frame had given them; ``written`` is the sum of all their words.

        Raises: StepLostError where other words were added up.
        """
        sums = np.concatenate([self.found[first].reshape(-1) for first in sorted(self.found)])
        added = int(_joined(sums, _WORD_BYTES).view(np.uint64).sum())
        if added != written & _WORD:
            raise StepLostError("partial sums of a weight gradient changed in the board's memory")
        width = 4 if self.frames[0].header.pairs else _WORD_BYTES
        return FrameReplies(
            owner=None,
            frames=self.frames[:1],
            results=_joined(sums, width).astype(f"<i{width}").view(np.uint64)[None],
            sums=np.zeros((1, 0, 2, LANES), np.int64),
            largest=0,
            saturations=0,
            written=np.array([added], np.uint64),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SumsLater:
    """A weight gradient whose partial sums are on the board until the next round, or until it is wanted."""

    call: WeightGradient
    collect: Callable[..., Any]
    replies: Sequence[FrameReplies]
    parts: Sequence[Parts]
    finish: Callable[[], None]  # fetches what is due

    @property
    def size(self) -> int:
        """Values of the gradient."""
        return int(np.prod(self.call.weights))

    def get(self) -> Ints:
        """The gradient.

        Raises: StepLostError where the step has to start again.
        """
        if not all(each.is_whole for each in self.parts):
            self.finish()
        if not all(each.is_whole for each in self.parts):
            raise StepLostError("partial sums of a weight gradient were lost with the board's memory")
        written = {
            id(frame): words
            for reply in self.replies
            for frame, words in zip(reply.frames, reply.written.tolist(), strict=True)
        }
        # Of frames that report together the last one says it for all.
        added = [each.whole(sum(written.get(id(frame), 0) for frame in each.frames)) for each in self.parts]
        fetched = [reply for reply in self.replies if not reply.frame.results]
        found: Ints = self.collect([*fetched, *added])
        return found


class PartialSums:
    """The partial sums that one board keeps."""

    def __init__(self, config: EngineConfig, reserve: Callable[[], bool]) -> None:
        """``reserve`` says whether the memory is there, and sees to that when it is first wanted."""
        self._config = config
        self._reserve = reserve
        self._half = 0
        self._due: list[Parts] = []
        self._adding: dict[int, tuple[Parts, int]] = {}  # whose sums a frame adds, by its identity
        self.added: Sequence[Adding] = ()  # by these frames, whose identities last as long

    @property
    def is_due(self) -> bool:
        """Whether parts wait to be added up."""
        return bool(self._due)

    @property
    def state(self) -> tuple[Any, ...]:
        """All on which plans depend."""
        return self._half, *((parts.at, parts.nbytes, len(parts.frames)) for parts in self._due)

    def forget(self) -> None:
        """Rely on nothing that the board holds, as after a failure."""
        self._due = []
        self._adding.clear()
        self.added = ()

    def adds(self, frame: PlannedFrame) -> bool:
        """Whether a frame adds up parts."""
        return id(frame) in self._adding

    def take_due(self) -> list[list[PlannedFrame]]:
        """Frames that add up what is due, for each engine."""
        numbered = enumerate(self._due)
        self.add(
            [(frame, n, at) for n, parts in numbered for at, frame in _adding_frames(parts, self._config)]
        )
        frames = [frame for frame, _, _ in self.added]
        return [frames[engine :: self._config.engines] for engine in range(self._config.engines)]

    def add(self, frames: Sequence[Adding]) -> None:
        """Let these frames add up what is due."""
        due, self._due = self._due, []
        self._half = 1 - self._half if due else 0  # so that all steps begin alike
        self.added = frames
        self._adding = {id(frame): (due[number], first) for frame, number, first in frames}
        for _, number, _ in frames:
            due[number].wanted += 1

    def expect(self, parts: Sequence[Parts]) -> None:
        """Parts are about to be written where there is room."""
        self._due += parts

    def place(
        self, calls: Sequence[Work], jobs: Sequence[list[Job]]
    ) -> tuple[list[list[Job]], dict[int, list[Parts]]]:
        """Let frames of weight gradients write where there is room; gives the parts by their operation.

        Jobs are those of the operations' shares.
        """
        left = _HALF
        placed, found = list(jobs), dict[int, list[Parts]]()
        for number, call in enumerate(calls):
            if not isinstance(call, WeightGradient):
                continue
            groups = list(_groups(jobs[number]))
            size = sum(len(group) * _bytes(group[0]) for group in groups)
            if not _WORTH_BYTES <= size <= left or not self._reserve():
                continue
            at = SUMS_AT + self._half * _HALF + _HALF - left
            placed[number], found[number] = _placed(jobs[number], groups, at)
            left -= size
            self.expect(found[number])
        return placed, found

    def take(self, reply: FrameReplies) -> None:
        """Take replies of frames that add up parts; others are of no interest."""
        for frame, results in zip(reply.frames, reply.results, strict=True):
            if id(frame) in self._adding:
                parts, first = self._adding[id(frame)]
                parts.found[first] = results.view(np.int16)


def _bytes(frame: PlannedFrame) -> int:
    return frame.header.result_words * _WORD_BYTES


def _joined(sums: NDArray[np.int16], width: int) -> Ints:
    """Numbers of so many bytes from the sums of these, modulo 2**64."""
    places = np.int64(1) << 8 * np.arange(width, dtype=np.int64)
    joined: Ints = (sums.reshape(-1, width) * places).sum(axis=1)
    return joined


def _groups(jobs: Sequence[Job]) -> Iterator[list[PlannedFrame]]:
    """Frames whose sums are added up, as many as surely fit int32 and as one frame can take."""
    by_tag: dict[Any, list[PlannedFrame]] = {}
    for job in jobs:
        for frame in job.frames:
            by_tag.setdefault(frame.tag, []).append(frame)
    for frames in by_tag.values():
        header = frames[0].header
        if header.oc_lanes * 2 != LANES or header.ic_lanes != LANES:
            continue
        most = _MOST
        if header.pairs:
            terms = max(frame.header.iterations // frame.header.results for frame in frames)
            most = min(_MOST, PAIRED_GRAD_WEIGHT_TERMS // terms)
        if most >= _FEWEST:
            each = -(-len(frames) // -(-len(frames) // most))
            groups = [frames[slice(*part)] for part in ranges(len(frames), each)]
            yield from (group for group in groups if len(group) >= _FEWEST)


def _placed(
    jobs: Sequence[Job], groups: Sequence[list[PlannedFrame]], at: int
) -> tuple[list[Job], list[Parts]]:
    """The same jobs with places for the sums of groups, from an address on."""
    moved: dict[int, PlannedFrame] = {}
    parts = []
    for group in groups:
        parts.append(Parts(at=at))
        for frame in group:
            moved[id(frame)] = replace(frame, results=[(at, _bytes(frame))], apart=parts[-1].at)
            parts[-1].frames.append(moved[id(frame)])
            at += _bytes(frame)
    placed = [[moved.get(id(frame), frame) for frame in job.frames] for job in jobs]
    return [replace(job, frames=frames) for job, frames in zip(jobs, placed, strict=True)], parts


def _adding_frames(parts: Parts, cfg: EngineConfig) -> Iterator[tuple[int, PlannedFrame]]:
    """Frames that add up parts, each for some of their pixels, with the first of these."""
    count = len(parts.frames)
    for first, end in ranges(parts.nbytes // LANES, cfg.x_depth // count):
        width = end - first
        starts = [parts.at + part * parts.nbytes + first * LANES for part in range(count)]
        runs = [(at, width * LANES) for at in starts]
        yield first, PlannedFrame(header=_adding_header(count, width, cfg), sources=(runs, _IDENTITY))


@lru_cache(maxsize=1024)
def _adding_header(count: int, width: int, cfg: EngineConfig) -> Header:
    """Of a frame that adds up so many parts of so many pixels."""
    return Header(
        mode=Mode.FORWARD,
        ic_lanes=cfg.ic_lanes,
        oc_lanes=cfg.oc_lanes,
        unchecked=1,
        x_kind=Kind.UINT8,
        w_kind=Kind.INT8,
        result=Kind.INT16,
        depth=1,
        x_count=count * width,
        w_count=LANES,
        H=1,
        W=1,
        levels=nest([Loop(limit=count, dxa=width), Loop(limit=width, dxa=1)]),
    )
