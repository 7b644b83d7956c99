# SPDX-License-Identifier: Apache-2.0
"""What a whole training on a device with resident tensors executes, counted without computing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import Counters
from e2train.devices.resident import (
    Affine,
    Convolution,
    DeviceTensor,
    Reduction,
    ResidentDevice,
    WeightGradient,
)
from e2train.numerics.elementwise import Written
from e2train.numerics.rounding import Ints
from e2train.numerics.scales import Floats
from e2train.runtime.ledger import Ledger, LedgerRow
from e2train.runtime.resident.body import Body
from e2train.runtime.resident.kinds import Kinds, body_kinds
from e2train.runtime.resident.network import ConvNorm, Network
from e2train.runtime.resident.norm import NormParameters
from e2train.runtime.resident.operations import Operations
from e2train.runtime.resident.scales import Scales
from e2train.runtime.resident.step import Choices, Parameters

__all__ = ["CountingDevice", "count_step", "full_rows"]


def full_rows(network: Network, kinds: Kinds, *, calls: int, samples: int) -> tuple[LedgerRow, ...]:
    """Ledger rows of training every block with full gradients, ``samples`` images in ``calls`` batches.

    A step's work is a part for each sample and a part of its own, which two counted steps tell apart.
    """
    one, two = (_step_rows(network, kinds, samples=count) for count in (1, 2))
    return tuple(
        _combine(first, second, lambda a, b: (b - a) * samples + (2 * a - b) * calls)
        for first, second in zip(one, two, strict=True)
    )


def _combine(one: LedgerRow, two: LedgerRow, figure: Callable[[int, int], int]) -> LedgerRow:
    a, b = one.counters, two.counters
    return replace(
        one,
        calls=figure(one.calls, two.calls),
        a_values=figure(one.a_values, two.a_values),
        b_values=figure(one.b_values, two.b_values),
        results=figure(one.results, two.results),
        counters=Counters(
            macs=figure(a.macs, b.macs),
            elementwise=figure(a.elementwise, b.elementwise),
            dram_bytes=figure(a.dram_bytes, b.dram_bytes),
            host_bytes=figure(a.host_bytes, b.host_bytes),
        ),
    )


def _step_rows(network: Network, kinds: Kinds, *, samples: int) -> tuple[LedgerRow, ...]:
    device = CountingDevice()
    return count_step(network, device, kinds, samples=samples)


def count_step(
    network: Network,
    device: ResidentDevice,
    kinds: Kinds,
    *,
    samples: int,
    bits: tuple[int, int] = (0, 0),
    gates: bool = False,
) -> tuple[LedgerRow, ...]:
    """Ledger rows of a training step in which every block runs, on a device that only counts.

    ``bits`` are those of x and gy that weight gradients are computed from; with ``gates`` their features are
    asked for.
    """
    by_tensor = body_kinds(network, kinds)
    scales = Scales(by_tensor, np.ones(len(by_tensor)), decay=1.0)
    ledger = Ledger()
    operations = Operations(device, scales, ledger, over_ranks=lambda values: values)
    body = Body(network, operations, kinds)
    s = network.first.shape

    def all_run(index: int, features: Callable[[], Floats]) -> None:
        if gates and index:  # the first block has none
            features()

    means = body.forward(
        np.zeros((samples, s.C, s.H, s.W), np.float32),
        {conv.name: _parameters(conv) for conv in network.convs},
        Choices(gates=all_run, any_rank=lambda flag: flag, some=gates),
        training=True,
        backward=True,
    )
    body.backward(np.zeros_like(means), lambda name, integers, scale: integers(*bits) * scale, only=bits)
    return ledger.snapshot()


def _parameters(conv: ConvNorm) -> Parameters:
    s = conv.shape
    ones, zeros = np.ones(s.K), np.zeros(s.K)
    norm = NormParameters(weight=ones, bias=zeros, running_mean=zeros, running_var=ones, eps=1.0)
    depth = 1 if conv.depthwise else s.C
    return Parameters(w=np.zeros((s.K, depth, s.R, s.S), np.int8), exponent=-7, norm=norm)


class CountingDevice:
    """A device that does nothing: what it was asked for is what counts."""

    name = "counting"
    memory_bytes = None

    def reserve(self, nbytes: int) -> None: ...
    def write(self, tensor: DeviceTensor, values: NDArray[Any]) -> None: ...
    def close(self) -> None: ...

    def take_counters(self) -> Counters:
        return Counters()

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        return np.zeros(tensor.shape, tensor.kind)

    def convolve(self, call: Convolution) -> Written:
        zeros = np.zeros(call.destination.C, np.int64) if call.sums else None
        return Written(largest=1, saturations=0, sums=zeros, squares=zeros)

    def weight_gradient(self, call: WeightGradient) -> Ints:
        return np.zeros(call.weights, np.int64)

    def affine(self, call: Affine) -> Written:
        zeros = np.zeros((call.out.N, call.out.C), np.int64) if call.sums else None
        return Written(largest=1, saturations=0, sums=zeros)

    def reduce(self, call: Reduction) -> tuple[Ints, Ints]:
        zeros = np.zeros((call.u.N, call.u.C) if call.per_sample else call.u.C, np.int64)
        return zeros, zeros
