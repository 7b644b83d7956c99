# SPDX-License-Identifier: Apache-2.0
"""Tensors on a device with what their integers stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from e2train.devices.resident import DeviceTensor
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import LARGEST, Kind, View, kind_range
from e2train.runtime.resident.network import Activation, ConvNorm

__all__ = [
    "Scaled",
    "addressed_bytes",
    "addressed_values",
    "ceiling",
    "integer_ceiling",
    "safe_shift",
]

Indices = NDArray[np.int64]
_INT32_BITS = 31


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled:
    """A tensor on the device, the activation that gave it, and its scale: real = integer * 2**exponent."""

    tensor: DeviceTensor
    exponent: int
    activation: Activation = "none"

    @property
    def most(self) -> float:
        """The largest magnitude that its integers can stand for."""
        low, high = kind_range(self.tensor.kind)
        return float(np.ldexp(float(max(-low, high)), self.exponent))

    @property
    def mask(self) -> Scaled | None:
        """Itself, where its activation closes some values to gradients."""
        return None if self.activation == "none" else self

    @property
    def ceiling(self) -> int:
        """The integer of its activation's ceiling; it may be beyond its kind."""
        return integer_ceiling(self.activation, self.exponent)

    def take(self, samples: Indices) -> Scaled:
        """Some of its samples."""
        return replace(self, tensor=self.tensor.take(samples))

    def seen(self, view: View) -> Scaled:
        """The same, read otherwise by an element-wise operation."""
        return replace(self, tensor=self.tensor.seen(view))


def ceiling(activation: Activation) -> float:
    """The largest value of an activation."""
    return 6.0 if activation == "relu6" else np.inf


def integer_ceiling(activation: Activation, exponent: int) -> int:
    """The ceiling of an activation in LSBs; LARGEST where there is none, or none within int32.

    An integer: scales that follow values of at most 6 have LSBs that divide it.
    """
    real = np.ldexp(ceiling(activation), -exponent)
    return max(1, round(min(float(real), LARGEST)))


def _pixels(tensor: DeviceTensor, out: DeviceTensor | None) -> int:
    """Pixels of a sample that an operation reads: a strided view leaves some out."""
    own = tensor.H * tensor.W
    return own if out is None or tensor.view != "strided" else out.H * out.W


def addressed_values(tensor: DeviceTensor, out: DeviceTensor | None) -> int:
    """Values that an operation with this result reads of a tensor."""
    return tensor.N * tensor.C * _pixels(tensor, out)


def addressed_bytes(tensor: DeviceTensor, out: DeviceTensor | None) -> int:
    """Bytes that an operation reads of a tensor, lanes left over included."""
    lanes = block_count(tensor.C) * LANES * np.dtype(tensor.kind).itemsize
    return tensor.N * lanes * _pixels(tensor, out)


def safe_shift(conv: ConvNorm, w: NDArray[np.int8], mode: str, kind: Kind) -> int:
    """The smallest shift with which no sum can leave int32."""
    low, high = kind_range(kind)
    axes = (1, 2, 3) if mode == "forward" or conv.depthwise else (0, 2, 3)
    bound = max(-low, high) * int(np.abs(w.astype(np.int64)).sum(axis=axes).max())
    return max(0, bound.bit_length() - _INT32_BITS + 1)
