# SPDX-License-Identifier: Apache-2.0
"""A device whose memory is flat: resident operations are planned as frames and run as chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from e2train.config import EngineConfig
from e2train.devices.chains.batch import Step
from e2train.devices.chains.jobs import Job, collector, plan_job
from e2train.devices.chains.operands import operands, results
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.replies import FrameReplies, failure, read_replies
from e2train.devices.chains.transfer import Area, lay_out, scratch_bytes
from e2train.devices.memory import HostMemory, check_access
from e2train.devices.one_by_one import OneByOne
from e2train.devices.protocol import Counters, DeviceError, at_once
from e2train.devices.resident import (
    DeviceTensor,
    Operation,
)
from e2train.packing.descriptors import (
    DESCRIPTOR_BYTES,
    Chain,
    ChainError,
    check_received,
    received,
    write_descriptors,
)

__all__ = ["SCRATCH_BYTES", "ChainResident", "named"]

_Outcome = tuple[list[FrameReplies], Counters]

SCRATCH_BYTES = 4 << 20  # of one chain, behind the memory for tensors
_FRAMES_WORTH_A_CHAIN = 2  # of an engine: each chain pays for its first load, which overlaps with nothing


class ChainResident(OneByOne, HostMemory):
    """Plans operations, runs them in ``parallel`` chains at a time, and puts their reports together."""

    name = "chains"
    parallel = 1

    def __init__(self, config: EngineConfig) -> None:
        super().__init__()
        self.config = config
        self._counters = Counters()
        self._tensors = 0  # bytes for tensors
        self._closed = False

    def reserve(self, nbytes: int) -> None:
        """Have at least so much memory; where it has to grow, what was in it is lost."""
        self._check()
        if nbytes <= self._tensors:
            return
        self._tensors = nbytes
        start = -(-nbytes // SCRATCH_BYTES) * SCRATCH_BYTES
        super().reserve(start + self.parallel * SCRATCH_BYTES)

    def close(self) -> None:
        """Let the memory go."""
        self._closed = True
        super().close()

    def run_chain(self, slot: int, mm2s: Chain, s2mm: Chain, *, reply_words: int) -> int | None:
        """Run a chain of descriptors each way and say how many cycles it took, where there is a clock.

        As many chains as ``parallel`` says may run at once, each in a slot of its own.

        Raises: ChainError, DeviceError.
        """
        raise NotImplementedError

    def compute_one(self, call: Operation) -> Any:
        """The outcome of an operation."""
        self._check(*operands(call), *results(call))
        job = plan_job(call, self.config)
        return collector(call)(self._run(job))

    def _run(self, job: Job) -> Iterator[FrameReplies]:
        """Replies to all frames of an operation, which depend on none of each other."""
        with named(job.label, self.name):
            for group in _groups(job.frames, self.parallel, self.config.engines):
                outcomes = self._run_group([[(0, frame) for frame in frames] for frames in group])
                self._counters += at_once([counters for _, counters in outcomes], self.config.engines)
                for replies, _ in outcomes:
                    yield from replies

    def _run_group(self, chains: Sequence[Sequence[Step]]) -> list[_Outcome]:
        """As many chains at a time as the device runs."""
        if len(chains) == 1:
            return [self._run_steps(0, chains[0])]
        with ThreadPoolExecutor(len(chains)) as pool:
            return list(pool.map(self._run_steps, range(len(chains)), chains))

    def _run_steps(self, slot: int, steps: Sequence[Step]) -> _Outcome:
        scratch = self._memory.size - (self.parallel - slot) * SCRATCH_BYTES
        area = Area(memory=self._memory, base=0, at=scratch)
        frames, owners = [frame for _, frame in steps], [owner for owner, _ in steps]
        laid = lay_out(frames, area, area, owners=owners)
        descriptors = -(-area.at // DESCRIPTOR_BYTES) * DESCRIPTOR_BYTES
        mm2s = write_descriptors(self._memory, laid.mm2s, descriptors)
        s2mm = write_descriptors(self._memory, laid.s2mm, mm2s.last + DESCRIPTOR_BYTES)
        try:
            cycles = self.run_chain(slot, mm2s, s2mm, reply_words=laid.s2mm.words)
            check_received(self._memory, laid.s2mm, s2mm)
        except (ChainError, DeviceError) as error:
            reported = failure(received(self._memory, laid.s2mm, s2mm))
            raise DeviceError(reported or str(error)) from error
        counters = Counters(
            cycles=cycles, words_in=laid.mm2s.words, words_out=laid.s2mm.words, frames=len(frames)
        )
        return read_replies(laid, self._memory), counters

    def _check(self, *tensors: DeviceTensor | None) -> None:
        if self._closed:
            raise DeviceError(f"device {self.name} is closed")
        check_access(self._tensors, *tensors)


def _groups(
    frames: Sequence[PlannedFrame], parallel: int, engines: int
) -> Iterator[list[list[PlannedFrame]]]:
    """Chains of frames that fit the scratch memory, as many at a time as may run at once."""
    each = -(-len(frames) // engines)
    most = max(min(_FRAMES_WORTH_A_CHAIN, each), -(-len(frames) // parallel))
    chains: list[list[PlannedFrame]] = [[]]
    used = DESCRIPTOR_BYTES  # where descriptors begin
    for frame in frames:
        size = scratch_bytes(frame)
        if chains[-1] and (used + size > SCRATCH_BYTES or len(chains[-1]) >= most):
            chains.append([])
            used = DESCRIPTOR_BYTES
        chains[-1].append(frame)
        used += size
    for first in range(0, len(chains), parallel):
        group = chains[first : first + parallel]
        if group[0]:
            yield group


@contextmanager
def named(label: str, device: str) -> Iterator[None]:
    """Say in errors which operation failed, and where."""
    try:
        yield
    except ChainError as error:
        raise DeviceError(f"{label} on {device}: {error}") from error
    except DeviceError as error:  # of whatever kind
        raise type(error)(f"{label} on {device}: {error}") from error
