# SPDX-License-Identifier: Apache-2.0
"""A device whose memory is flat: resident operations are planned as frames and run as chains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from e2train.config import EngineConfig
from e2train.devices.chains.convolution import plan_convolution
from e2train.devices.chains.elements import plan_affine, plan_reduction
from e2train.devices.chains.gradient import add_sums, plan_gradient, scale_bits
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.transfer import Area, FrameReply, failure, lay_out, read_replies, scratch_bytes
from e2train.devices.memory import HostMemory, check_access
from e2train.devices.protocol import Counters, DeviceError, at_once
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Reduction, WeightGradient
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import Written
from e2train.numerics.rounding import Ints
from e2train.packing.descriptors import (
    DESCRIPTOR_BYTES,
    Chain,
    ChainError,
    check_received,
    received,
    write_descriptors,
)

__all__ = ["ChainResident"]

_Outcome = tuple[list[FrameReply], Counters]

SCRATCH_BYTES = 4 << 20  # of one chain, behind the memory for tensors
_FRAMES_WORTH_A_CHAIN = 2  # of an engine: each chain pays for its first load, which overlaps with nothing


class ChainResident(HostMemory):
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

    def convolve(self, call: Convolution) -> Written:
        """Compute a convolution into the memory."""
        self._check(call.source, call.destination)
        K = call.destination.C
        sums = np.zeros((2, block_count(K) * LANES), np.int64)
        largest = saturations = 0
        for reply in self._run(call.label, plan_convolution(call, self.config)):
            largest, saturations = max(largest, reply.largest), saturations + reply.saturations
            if call.sums:
                low, high = reply.frame.tag
                found = reply.sides.reshape(-1, high - low, 2, LANES).sum(axis=0)
                sums[:, low * LANES : high * LANES] += found.transpose(1, 0, 2).reshape(2, -1)
        by_channel = (sums[0, :K], sums[1, :K]) if call.sums else (None, None)
        return Written(largest=largest, saturations=saturations, sums=by_channel[0], squares=by_channel[1])

    def weight_gradient(self, call: WeightGradient) -> Ints:
        """The weight gradient, int64 (K, C, R, S), or (C, 1, R, S) of a depthwise convolution."""
        self._check(call.x, call.gy)
        K, C, R, S = call.weights
        gw = np.zeros(
            (block_count(K) * LANES, C if call.depthwise else block_count(C) * LANES, R, S), np.int64
        )
        for reply in self._run(call.label, plan_gradient(call, self.config)):
            add_sums(gw, reply.frame, reply.results, depthwise=call.depthwise)
        return gw[:K, :C] >> scale_bits(call)

    def affine(self, call: Affine) -> Written:
        """Compute an affine operation into the memory."""
        self._check(call.u, call.v, call.mask, call.out)
        sums = np.zeros((call.out.N, block_count(call.out.C), LANES), np.int64)
        largest = saturations = 0
        for reply in self._run(f"{call.name} (affine)", plan_affine(call, self.config)):
            largest, saturations = max(largest, reply.largest), saturations + reply.saturations
            if call.sums:
                _add_by_sample(sums, reply, 0)
        of_channels = sums.reshape(call.out.N, sums.shape[1] * LANES)[:, : call.out.C]
        return Written(largest=largest, saturations=saturations, sums=of_channels if call.sums else None)

    def reduce(self, call: Reduction) -> tuple[Ints, Ints]:
        """Sums of u and u*v, int64 (C,) each, or (N, C) per sample."""
        self._check(call.u, call.v, call.mask)
        shape = call.u.N, block_count(call.u.C), LANES
        sums, products = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for reply in self._run(f"{call.name} (reduce)", plan_reduction(call, self.config)):
            _add_by_sample(sums, reply, 0)
            _add_by_sample(products, reply, 1)
        found, with_v = (each.reshape(call.u.N, shape[1] * LANES)[:, : call.u.C] for each in (sums, products))
        return (found, with_v) if call.per_sample else (found.sum(axis=0), with_v.sum(axis=0))

    def take_counters(self) -> Counters:
        """What was executed since this was last asked."""
        counters, self._counters = self._counters, Counters()
        return counters

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

    def _run(self, label: str, frames: Iterable[PlannedFrame]) -> Iterator[FrameReply]:
        """Replies to all frames of an operation, which depend on none of each other."""
        try:
            planned = list(frames)
            for group in _groups(planned, self.parallel, self.config.engines):
                outcomes = self._run_group(group)
                self._counters += at_once([counters for _, counters in outcomes], self.config.engines)
                for replies, _ in outcomes:
                    yield from replies
        except ChainError as error:
            raise DeviceError(f"{label} on {self.name}: {error}") from error
        except DeviceError as error:  # of whatever kind
            raise type(error)(f"{label} on {self.name}: {error}") from error

    def _run_group(self, chains: Sequence[Sequence[PlannedFrame]]) -> list[_Outcome]:
        """As many chains at a time as the device runs."""
        if len(chains) == 1:
            return [self._run_frames(0, chains[0])]
        with ThreadPoolExecutor(len(chains)) as pool:
            return list(pool.map(self._run_frames, range(len(chains)), chains))

    def _run_frames(self, slot: int, frames: Sequence[PlannedFrame]) -> _Outcome:
        scratch = self._memory.size - (self.parallel - slot) * SCRATCH_BYTES
        area = Area(memory=self._memory, base=0, at=scratch)
        laid = lay_out(frames, area, area)
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


def _add_by_sample(sums: Ints, reply: FrameReply, which: int) -> None:
    """Add a frame's sums to those of its samples and blocks. Shapes: sums (N, blocks, 16)."""
    samples, blocks = reply.frame.tag
    found = reply.sides[:, which].reshape(samples[1] - samples[0], blocks[1] - blocks[0], LANES)
    sums[slice(*samples), slice(*blocks)] += found
