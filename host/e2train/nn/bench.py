# SPDX-License-Identifier: Apache-2.0
"""How busy a device's MAC array is, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from e2train.devices import (
    MODES,
    ConvShape,
    LayerCall,
    Mode,
    StreamDevice,
    TensorDevice,
    products_per_multiplier,
)
from e2train.devices.protocol import OPERANDS
from e2train.nn.functions import safe_shift
from e2train.nn.trace import trace_convs
from e2train.numerics.frames.layout import G_BITS, X_BITS
from e2train.runtime import execute

__all__ = ["BenchLayer", "BenchRow", "bench_layers", "bench_rows", "weighted_utilisation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchLayer:
    """A shape of convolution that a model has, and how often."""

    name: str
    shape: ConvShape
    count: int
    first: bool  # takes the images: its few channels leave lanes idle, and nobody needs its grad_input


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One layer in one mode, run once."""

    layer: str
    count: int
    first: bool
    mode: Mode
    macs: int
    cycles: int | None
    utilisation: float | None  # macs / (lanes * cycles), with two lanes a multiplier in grad_msb


def bench_layers(model_name: str, *, batch: int) -> list[BenchLayer]:
    """The distinct convolutions of a model, in order of use.

    >>> [(layer.name, layer.count) for layer in bench_layers("resnet8", batch=1)][:2]
    [('stem.0', 1), ('blocks.0.branch.0', 2)]
    """
    names: dict[ConvShape, list[str]] = {}
    convs = [conv for conv in trace_convs(model_name, batch=batch) if conv.groups == 1]  # others: the host's
    for conv in convs:
        names.setdefault(conv.shape, []).append(conv.name)
    first = next(conv.shape for conv in convs if conv.first)
    return [
        BenchLayer(name=same[0], shape=shape, count=len(same), first=shape == first)
        for shape, same in names.items()
    ]


def bench_rows(
    layers: list[BenchLayer], device: TensorDevice | StreamDevice, *, seed: int = 0
) -> Iterator[BenchRow]:
    """Run every layer in every mode once, on random integers."""
    multipliers = device.config.macs_per_cycle if isinstance(device, StreamDevice) else None
    rng = np.random.default_rng(seed)
    for layer in layers:
        for mode in MODES:
            if layer.first and mode == "grad_input":
                continue
            counters = execute(_random_call(layer, mode, rng), device).counters
            lanes = (multipliers or 0) * products_per_multiplier(mode)
            busy = counters.macs / (lanes * counters.cycles) if lanes and counters.cycles else None
            yield BenchRow(
                layer=layer.name,
                count=layer.count,
                first=layer.first,
                mode=mode,
                macs=counters.macs,
                cycles=counters.cycles,
                utilisation=busy,
            )


def weighted_utilisation(rows: list[BenchRow], mode: Mode) -> float | None:
    """Utilisation of a mode over all layers but the first, weighted by the model's MACs in each."""
    chosen = [row for row in rows if row.mode == mode and not row.first and row.utilisation is not None]
    macs = sum(row.macs * row.count for row in chosen)
    return sum(row.macs * row.count * (row.utilisation or 0.0) for row in chosen) / macs if macs else None


def _random_call(layer: BenchLayer, mode: Mode, rng: np.random.Generator) -> LayerCall:
    s = layer.shape
    x = rng.integers(0, 256, (s.N, s.C, s.H, s.W), np.uint8)
    w = rng.integers(-127, 128, (s.K, s.C, s.R, s.S), np.int8)
    gy = rng.integers(-(1 << 15), 1 << 15, (s.N, s.K, s.P, s.Q), np.int16)
    a, b = ({"x": x, "w": w, "gy": gy}[role] for role in OPERANDS[mode])
    shift = safe_shift(torch.from_numpy(w), 1 << 15) if mode == "grad_input" else 0
    x_bits, g_bits = (X_BITS, G_BITS) if mode == "grad_msb" else (0, 0)
    return LayerCall(mode=mode, shape=s, a=a, b=b, shift=shift, x_bits=x_bits, g_bits=g_bits, name=layer.name)
