# SPDX-License-Identifier: Apache-2.0
"""An operation as frames, and what collects its outcome from their replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.chains.convolution import plan_convolution, sent_weights
from e2train.devices.chains.elements import plan_affine, plan_reduction, sent_coefficients
from e2train.devices.chains.gradient import add_sums, plan_gradient, scale_bits
from e2train.devices.chains.operands import Work
from e2train.devices.chains.packed import Unpacking, plan_unpacking
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.replies import FrameReplies
from e2train.devices.chains.reports import together
from e2train.devices.resident import Affine, Convolution, Reduction, WeightGradient
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import Written
from e2train.numerics.rounding import Ints

__all__ = ["Job", "collector", "plan_job", "sent_values"]

Replies = Iterable[FrameReplies]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """Frames that depend on none of each other."""

    label: str
    frames: list[PlannedFrame]


def plan_job(call: Work, cfg: EngineConfig, *, first: int = 0, grouped: bool = True) -> Job:
    """Plan an operation for an engine; its samples count from the number ``first`` on.

    Frames come as they can report together, or with ``grouped=False`` in the order of samples.

    Raises: ShapeError when it does not fit the engine's buffers.
    """
    label, frames = _planned(call, cfg, first)
    return Job(label=label, frames=together(frames) if grouped else sorted(frames, key=attrgetter("sample")))


def sent_values(call: Work, cfg: EngineConfig, samples: int) -> Mapping[Any, NDArray[Any]]:
    """What the host sends of a call with so many samples and changes between calls, in order.

    Of whatever calls and samples, those of one key are the same part of weights or coefficients.
    """
    if isinstance(call, Convolution):
        return sent_weights(call, cfg, samples)
    return sent_coefficients(call) if isinstance(call, Affine) else {}


def collector(call: Work) -> Callable[[Replies], Any]:
    """What collects the outcome of an operation from the replies to its frames."""
    if isinstance(call, Convolution):
        return partial(_convolved, call)
    if isinstance(call, WeightGradient):
        return partial(_weight_gradient, call)
    if isinstance(call, Unpacking):
        return _unpacked
    return partial(_affine, call) if isinstance(call, Affine) else partial(_reduced, call)


def _planned(call: Work, cfg: EngineConfig, first: int) -> tuple[str, Iterator[PlannedFrame]]:
    if isinstance(call, Convolution):
        return call.label, plan_convolution(call, cfg)
    if isinstance(call, WeightGradient):
        return call.label, plan_gradient(call, cfg)
    if isinstance(call, Unpacking):
        return call.label, plan_unpacking(call, cfg)
    if isinstance(call, Affine):
        return f"{call.name} (affine)", plan_affine(call, cfg, first=first)
    return f"{call.name} (reduce)", plan_reduction(call, cfg, first=first)


def _convolved(call: Convolution, replies: Replies) -> Written:
    K = call.destination.C
    sums = np.zeros((2, block_count(K) * LANES), np.int64)
    largest = saturations = 0
    for reply in replies:
        largest, saturations = max(largest, reply.largest), saturations + reply.saturations
        if call.sums:
            low, high = reply.frame.tag
            found = reply.sums.reshape(-1, high - low, 2, LANES).sum(axis=0)
            sums[:, low * LANES : high * LANES] += found.transpose(1, 0, 2).reshape(2, -1)
    by_channel = (sums[0, :K], sums[1, :K]) if call.sums else (None, None)
    return Written(largest=largest, saturations=saturations, sums=by_channel[0], squares=by_channel[1])


def _weight_gradient(call: WeightGradient, replies: Replies) -> Ints:
    K, C, R, S = call.weights
    gw = np.zeros((block_count(K) * LANES, C if call.depthwise else block_count(C) * LANES, R, S), np.int64)
    for reply in replies:
        add_sums(gw, reply.frame, reply.results, depthwise=call.depthwise)
    return gw[:K, :C] >> scale_bits(call)


def _unpacked(replies: Replies) -> None:
    """Nothing comes of it but values in the memory."""


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
    N, blocks = call.u.N, block_count(call.u.C)
    if call.per_sample:
        sums, products = np.zeros((2, N, blocks, LANES), np.int64)
        for reply in replies:
            _add_by_sample(sums, reply, 0)
            _add_by_sample(products, reply, 1)
        found, with_v = (each.reshape(N, blocks * LANES)[:, : call.u.C] for each in (sums, products))
        return found, with_v
    both = np.zeros((2, blocks, LANES), np.int64)
    for reply in replies:
        _, (low, high) = reply.frame.tag
        both[:, low:high] += reply.sums.sum(axis=0).swapaxes(0, 1)
    of_u, of_products = both.reshape(2, blocks * LANES)[:, : call.u.C]
    return of_u, of_products


def _add_by_sample(sums: Ints, reply: FrameReplies, which: int) -> None:
    """Add frames' sums to those of their samples and blocks. Shapes: sums (N, blocks, 16)."""
    samples, blocks = reply.frame.tag
    found = reply.sums[:, :, which].sum(axis=0)
    sums[slice(*samples), slice(*blocks)] += found.reshape(
        samples[1] - samples[0], blocks[1] - blocks[0], LANES
    )
