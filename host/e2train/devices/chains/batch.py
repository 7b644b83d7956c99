# SPDX-License-Identifier: Apache-2.0
"""Several operations as few chains; frames between them that keep one from reading before another wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from e2train.config import EngineConfig
from e2train.devices.chains.elements import plan_reduction
from e2train.devices.chains.jobs import Job
from e2train.devices.chains.operands import Work, operands, results
from e2train.devices.chains.plan import PlannedFrame, Range
from e2train.devices.chains.transfer import scratch_bytes
from e2train.devices.resident import DeviceTensor, Reduction

__all__ = ["BARRIER_BYTES", "Step", "barrier", "join"]

Step = tuple[int | None, PlannedFrame]  # whose frame it is; None of no operation

_LONG, _SHORT = (8, 64), (1, 4)  # rows and columns that the frames of a barrier read
BARRIER_BYTES = 16 * 8 * 64  # of the memory, from its begin on


def join(
    calls: Sequence[Work],
    jobs: Sequence[Job],
    cfg: EngineConfig,
    *,
    room: int,
    before: Sequence[PlannedFrame] = (),
) -> Iterator[list[Step]]:
    """The frames of operations in order, as chains that take at most ``room`` bytes of scratch memory.

    Where an operation reads what one before it in its chain wrote, a barrier comes between them. Frames
    ``before`` all others have nothing to do with these.
    """
    chain: list[Step] = [(None, frame) for frame in before]
    used, fresh = _bytes(chain), list[Range]()  # bytes taken, and what was written since the last barrier
    for index, (call, job) in enumerate(zip(calls, jobs, strict=True)):
        steps: list[Step] = [(index, frame) for frame in job.frames]
        if _meet(operands(call), fresh):
            between: list[Step] = [(None, frame) for frame in barrier(cfg)]
            fresh, more = [], _bytes(between)
            if used + more + _bytes(steps[:1]) <= room:  # else a chain ends here anyway
                chain += between
                used += more
        for step in steps:
            size = scratch_bytes(step[1])
            if chain and used + size > room:
                yield chain
                chain, used, fresh = [], 0, []
            chain.append(step)
            used += size
        fresh += [span for tensor in results(call) if (span := _span(tensor))]
    if chain:
        yield chain


@lru_cache
def barrier(cfg: EngineConfig) -> tuple[PlannedFrame, ...]:
    """Frames after which the results of all before them are in the memory.

    The engine works on at most five frames at once, so it takes the last one's first word when the results
    of those before the barrier have left it; and what the DMA may fetch ahead is less than that frame is
    long, so it asks for what follows after that, while they are written.
    """

    def frames(size: tuple[int, int]) -> list[PlannedFrame]:
        tensor = DeviceTensor(kind="uint8", C=16, H=size[0], W=size[1], offsets=np.zeros(1, np.int64))
        return list(plan_reduction(Reduction(u=tensor, v=tensor, name="barrier"), cfg))

    return (*frames(_SHORT) * 4, *frames(_LONG))


def _bytes(steps: Sequence[Step]) -> int:
    return sum(scratch_bytes(frame) for _, frame in steps)


def _span(tensor: DeviceTensor) -> Range | None:
    """Bytes from the first to the last sample."""
    if not tensor.N:
        return None
    return int(tensor.offsets.min()), int(tensor.offsets.max()) + tensor.sample_bytes


def _meet(tensors: Sequence[DeviceTensor], spans: Sequence[Range]) -> bool:
    """Whether tensors lie where something was written."""
    own = [span for tensor in tensors if (span := _span(tensor))]
    return any(first < end and start < stop for first, stop in own for start, end in spans)
