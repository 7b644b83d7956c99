# SPDX-License-Identifier: Apache-2.0
"""Several operations as few chains, whose frames read nothing before another one has written it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from e2train.config import EngineConfig
from e2train.devices.chains.elements import plan_reduction
from e2train.devices.chains.hazards import Waits, find_waits
from e2train.devices.chains.jobs import Job
from e2train.devices.chains.operands import Work
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.transfer import scratch_bytes
from e2train.devices.resident import DeviceTensor, Reduction

__all__ = ["BARRIER_BYTES", "Step", "barrier", "join"]

Step = tuple[int | None, PlannedFrame]  # whose frame it is; None of no operation

_AT_ONCE = 5  # frames that the engine works on, as tests/rtl/test_barrier.py counts
_OVERLAPPING = 8  # operations: where more do, as in an evaluation, all of them end in frames that wait
_FETCHED_WORDS = 2048  # the DMA fetches fewer ahead of the engine
_LONG, _SHORT = (8, 64), (1, 4)  # rows and columns that the frames of a barrier read
BARRIER_BYTES = 16 * 8 * 64  # of the memory, from its begin on


def join(
    calls: Sequence[Work],
    jobs: Sequence[Job],
    cfg: EngineConfig,
    *,
    room: int,
    before: Sequence[PlannedFrame] = (),
    interleave: bool = False,
) -> Iterator[list[Step]]:
    """The frames of operations as chains that take at most ``room`` bytes of scratch memory.

    Operations follow each other. With ``interleave`` those that come next overlap: an element-wise one, whose
    words take longer than its arithmetic, then loads while a convolution computes. Frames ``before`` all
    others have nothing to do with these.
    """
    waits = find_waits(calls, [job.frames for job in jobs])
    queues = [
        _Queue(number, job.frames, own) for number, (job, own) in enumerate(zip(jobs, waits, strict=True))
    ]
    chain = _Chain(before)
    while left := [queue for queue in queues if queue.frame is not None]:
        ready = [
            queue for queue in left[: _OVERLAPPING if interleave else 1] if queue.is_ready(queues, chain)
        ]
        queue = min(ready, key=chain.preference) if ready else left[0]
        assert queue.frame is not None
        between = () if ready else barrier(cfg)
        if chain.steps and chain.nbytes + sum(map(scratch_bytes, (*between, queue.frame))) > room:
            yield chain.steps
            chain, between = _Chain(), ()
        for frame in between:
            chain.add(None, frame)
        chain.add(queue.number, queue.frame, queue.taken)
        queue.taken += 1
    if chain.steps:
        yield chain.steps


@lru_cache
def barrier(cfg: EngineConfig) -> tuple[PlannedFrame, ...]:
    """Frames after which the results of all before them are in the memory.

    The engine takes the last one's first word when the results of those before the barrier have left it; and
    what the DMA may fetch ahead is less than that frame is long, so it asks for what follows after that,
    while they are written.
    """

    def frames(size: tuple[int, int]) -> list[PlannedFrame]:
        tensor = DeviceTensor(kind="uint8", C=16, H=size[0], W=size[1], offsets=np.zeros(1, np.int64))
        return list(plan_reduction(Reduction(u=tensor, v=tensor, name="barrier"), cfg))

    return (*frames(_SHORT) * (_AT_ONCE - 1), *frames(_LONG))


class _Queue:
    """The frames of an operation that are in no chain yet."""

    def __init__(self, number: int, frames: Sequence[PlannedFrame], waits: Sequence[Waits]) -> None:
        self.number = number
        self.taken = 0
        self._frames = frames
        self._waits = waits

    @property
    def frame(self) -> PlannedFrame | None:
        """The next one."""
        return self._frames[self.taken] if self.taken < len(self._frames) else None

    @property
    def progress(self) -> float:
        """The share of them that was taken."""
        return self.taken / len(self._frames)

    def is_ready(self, queues: Sequence[_Queue], chain: _Chain) -> bool:
        """Whether the next frame may come next in the chain."""
        for wait in self._waits:
            count = wait.counts[self.taken]
            if count > queues[wait.other].taken:
                return False
            if wait.written and count and not chain.has_written(wait.other, count - 1):
                return False
        return True


class _Chain:
    """Frames in order."""

    def __init__(self, before: Sequence[PlannedFrame] = ()) -> None:
        self.steps: list[Step] = []
        self.nbytes = 0  # of scratch memory
        self._starts = [0]  # words before each frame, and before the next one
        self._places: dict[tuple[int, int], int] = {}  # of frames, by operation and number
        self._hidden_words = 0  # that load while the last frame is computed, a convolution
        for frame in before:
            self.add(None, frame)

    def add(self, owner: int | None, frame: PlannedFrame, number: int = 0) -> None:
        """A frame comes next; it has this number among those of its operation."""
        if owner is not None:
            self._places[owner, number] = len(self.steps)
        self.steps.append((owner, frame))
        self.nbytes += scratch_bytes(frame)
        self._starts.append(self._starts[-1] + frame.header.frame_words)
        self._hidden_words = 0 if frame.header.elements else 2 * frame.header.iterations

    def has_written(self, owner: int, number: int) -> bool:
        """Whether what a frame writes is in the memory before the DMA asks for what the next one reads.

        When the engine takes the first word of a frame, the results of those that it does not work on any
        more have left it.
        """
        place = self._places.get((owner, number))
        if place is None:  # in a chain that has ended
            return True
        # One that holds its report back leaves the engine a frame later: its last word waits for a report.
        held = place + 1 < len(self.steps) and self.steps[place + 1][0] == owner
        first = place + _AT_ONCE + held
        return first < len(self.steps) and self._starts[-1] - self._starts[first] >= _FETCHED_WORDS

    def preference(self, queue: _Queue) -> tuple[int, float]:
        """Of the least comes next: what loads long where that is hidden, then what computes long."""
        assert queue.frame is not None
        header = queue.frame.header
        hidden = header.frame_words <= self._hidden_words
        return (0 if hidden else 2) if header.elements else 1, queue.progress
