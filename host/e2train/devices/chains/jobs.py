# SPDX-License-Identifier: Apache-2.0
"""An operation as frames, and what its replies amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from e2train.config import EngineConfig
from e2train.devices.chains.convolution import plan_convolution
from e2train.devices.chains.elements import plan_affine, plan_reduction
from e2train.devices.chains.gradient import add_sums, plan_gradient, scale_bits
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.transfer import FrameReply
from e2train.devices.resident import Affine, Convolution, Operation, Reduction, WeightGradient
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import Written
from e2train.numerics.rounding import Ints

__all__ = ["Job", "plan_job"]

Replies = Iterable[FrameReply]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """Frames that depend on none of each other, and what collects the outcome from their replies."""

    label: str
    frames: list[PlannedFrame]
    collect: Callable[[Replies], Any]


def plan_job(call: Operation, cfg: EngineConfig) -> Job:
    """Plan an operation for an engine.

    Raises: ShapeError when it does not fit the engine's buffers.
    """
    if isinstance(call, Convolution):
        frames, collect = plan_convolution(call, cfg), partial(_convolved, call)
        return Job(label=call.label, frames=list(frames), collect=collect)
    if isinstance(call, WeightGradient):
        return Job(
            label=call.label, frames=list(plan_gradient(call, cfg)), collect=partial(_weight_gradient, call)
        )
    if isinstance(call, Affine):
        label = f"{call.name} (affine)"
        return Job(label=label, frames=list(plan_affine(call, cfg)), collect=partial(_affine, call))
    label = f"{call.name} (reduce)"
    return Job(label=label, frames=list(plan_reduction(call, cfg)), collect=partial(_reduced, call))


def _convolved(call: Convolution, replies: Replies) -> Written:
    K = call.destination.C
    sums = np.zeros((2, block_count(K) * LANES), np.int64)
    largest = saturations = 0
    for reply in replies:
        largest, saturations = max(largest, reply.largest), saturations + reply.saturations
        if call.sums:
            low, high = reply.frame.tag
            found = reply.sides.reshape(-1, high - low, 2, LANES).sum(axis=0)
            sums[:, low * LANES : high * LANES] += found.transpose(1, 0, 2).reshape(2, -1)
    by_channel = (sums[0, :K], sums[1, :K]) if call.sums else (None, None)
    return Written(largest=largest, saturations=saturations, sums=by_channel[0], squares=by_channel[1])


def _weight_gradient(call: WeightGradient, replies: Replies) -> Ints:
    K, C, R, S = call.weights
    gw = np.zeros((block_count(K) * LANES, C if call.depthwise else block_count(C) * LANES, R, S), np.int64)
    for reply in replies:
        add_sums(gw, reply.frame, reply.results, depthwise=call.depthwise)
    return gw[:K, :C] >> scale_bits(call)


def _affine(call: Affine, replies: Replies) -> Written:
    sums = np.zeros((call.out.N, block_count(call.out.C), LANES), np.int64)
    largest = saturations = 0
    for reply in replies:
        largest, saturations = max(largest, reply.largest), saturations + reply.saturations
        if call.sums:
            _add_by_sample(sums, reply, 0)
    of_channels = sums.reshape(call.out.N, sums.shape[1] * LANES)[:, : call.out.C]
    return Written(largest=largest, saturations=saturations, sums=of_channels if call.sums else None)


def _reduced(call: Reduction, replies: Replies) -> tuple[Ints, Ints]:
    shape = call.u.N, block_count(call.u.C), LANES
    sums, products = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for reply in replies:
        _add_by_sample(sums, reply, 0)
        _add_by_sample(products, reply, 1)
    found, with_v = (each.reshape(call.u.N, shape[1] * LANES)[:, : call.u.C] for each in (sums, products))
    return (found, with_v) if call.per_sample else (found.sum(axis=0), with_v.sum(axis=0))


def _add_by_sample(sums: Ints, reply: FrameReply, which: int) -> None:
    """Add a frame's sums to those of its samples and blocks. Shapes: sums (N, blocks, 16)."""
    samples, blocks = reply.frame.tag
    found = reply.sides[:, which].reshape(samples[1] - samples[0], blocks[1] - blocks[0], LANES)
    sums[slice(*samples), slice(*blocks)] += found
