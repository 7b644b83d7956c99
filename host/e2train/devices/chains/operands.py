# SPDX-License-Identifier: Apache-2.0
"""Which tensors an operation reads and writes."""

from __future__ import annotations

from e2train.devices.chains.packed import Unpacking
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Operation, WeightGradient

__all__ = ["Work", "operands", "results"]

Work = Operation | Unpacking
"""What a chain may do."""


def operands(call: Work) -> tuple[DeviceTensor, ...]:
    """The tensors that an operation reads."""
    if isinstance(call, Convolution | Unpacking):
        return (call.source,)
    if isinstance(call, WeightGradient):
        return call.x, call.gy
    listed = (call.u, call.v, call.mask)
    return tuple(tensor for tensor in listed if tensor is not None)


def results(call: Work) -> tuple[DeviceTensor, ...]:
    """The tensors that an operation writes."""
    if isinstance(call, Convolution | Unpacking):
        return (call.destination,)
    return (call.out,) if isinstance(call, Affine) else ()
