# SPDX-License-Identifier: Apache-2.0
"""Device memory that is an array on this machine, and the executable spec of what a resident device does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train import numerics
from e2train.devices.protocol import Closing, Counters, ShapeError
from e2train.devices.resident import ALIGNMENT, Affine, Convolution, DeviceTensor, Reduction, WeightGradient
from e2train.numerics.blocks import LANES, block_count, from_blocks, to_blocks
from e2train.numerics.elementwise import Written, seen
from e2train.numerics.rounding import Ints, keep_high

__all__ = ["HostMemory", "SpecResident", "check_access", "check_values"]


class HostMemory(Closing):
    """Bytes that stand for a device's memory; every access is checked against their end."""

    memory_bytes: int | None = None

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)

    def reserve(self, nbytes: int) -> None:
        """Have at least so much memory; where it has to grow, what was in it is lost."""
        if nbytes <= self._memory.size:
            return
        whole = np.zeros(nbytes + ALIGNMENT, np.uint8)
        start = -whole.ctypes.data % ALIGNMENT
        self._memory = whole[start : start + nbytes]

    def write(self, tensor: DeviceTensor, values: NDArray[Any]) -> None:
        """Put values (N, C, H, W) of the tensor's kind into the memory.

        Raises: ShapeError when they are not of its shape and kind.
        """
        check_values(tensor, values)
        self._check(tensor)
        size = tensor.sample_bytes
        for sample, offset in zip(to_blocks(values), tensor.offsets, strict=True):
            self._memory[offset : offset + size] = sample.reshape(-1).view(np.uint8)

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        """Values (N, C, H, W) from the memory."""
        self._check(tensor)
        size = tensor.sample_bytes
        raw = np.empty((tensor.N, size), np.uint8)
        for sample, offset in enumerate(tensor.offsets):
            raw[sample] = self._memory[offset : offset + size]
        blocks = raw.view(tensor.kind).reshape(tensor.N, block_count(tensor.C), tensor.H, tensor.W, LANES)
        return from_blocks(blocks, tensor.C)

    def take_counters(self) -> Counters:
        """An emulator has no clock and no frames."""
        return Counters()

    def close(self) -> None:
        """Let the memory go."""
        self._memory = np.empty(0, np.uint8)

    def _check(self, *tensors: DeviceTensor | None) -> None:
        check_access(self._memory.size, *tensors)


def check_values(tensor: DeviceTensor, values: NDArray[Any]) -> None:
    """Make sure that values can be written as a tensor.

    Raises: ShapeError when they are not of its shape and kind.
    """
    if values.shape != tensor.shape or values.dtype != np.dtype(tensor.kind):
        raise ShapeError(f"{values.dtype}{values.shape} cannot be written as {tensor.kind}{tensor.shape}")


def check_access(nbytes: int, *tensors: DeviceTensor | None) -> None:
    """Make sure that tensors lie within a memory of ``nbytes``.

    Raises: ShapeError when one does not, or a sample is not aligned.
    """
    for tensor in tensors:
        if tensor is None or not tensor.N:
            continue
        first, end, aligned = tensor.span
        if first < 0 or end > nbytes or not aligned:
            raise ShapeError(
                f"a tensor at bytes {first} to {end} is not in the {nbytes} bytes reserved, or not "
                f"aligned to {ALIGNMENT}"
            )


class SpecResident(HostMemory):
    """Every operation as ``numerics`` says: slow, and right by definition."""

    name = "spec"

    def convolve(self, call: Convolution) -> Written:
        """Compute a convolution into the memory."""
        source, kind, s = self.read(call.source), call.destination.kind, call.shape
        how: dict[str, Any] = {"stride": s.stride, "padding": s.padding, "shift": call.shift, "kind": kind}
        if call.mode == "forward":
            values, written = numerics.rounded_forward(source, call.w, **how)
        else:
            size = s.H, s.W
            values, written = numerics.rounded_grad_input(
                source, call.w, size=size, depthwise=call.depthwise, **how
            )
        self.write(call.destination, values)
        if call.sums:
            return written
        return Written(largest=written.largest, saturations=written.saturations)

    def weight_gradient(self, call: WeightGradient) -> Ints:
        """The weight gradient, int64 (K, C, R, S), or (C, 1, R, S) of a depthwise convolution."""
        x, gy = (
            self._high_bits(tensor, bits) for tensor, bits in ((call.x, call.x_bits), (call.gy, call.g_bits))
        )
        s = call.shape
        return numerics.conv_grad_weight(
            x, gy, kernel=call.kernel, stride=s.stride, padding=s.padding, depthwise=call.depthwise
        )

    def affine(self, call: Affine) -> Written:
        """Compute an affine operation into the memory."""
        size = call.out.shape[1:]
        u, v, mask = (
            None if tensor is None else seen(self.read(tensor), tensor.view, size)
            for tensor in (call.u, call.v, call.mask)
        )
        assert u is not None
        values, written = numerics.affine(
            u,
            v,
            a=call.a,
            b=call.b,
            d=call.d,
            shift=call.shift,
            kind=call.out.kind,
            relu=call.relu,
            ceiling=call.ceiling,
            mask=mask,
            mask_limit=call.mask_limit,
            mask_out=call.mask_out,
            dither=call.dither,
        )
        self.write(call.out, values)
        sums = written.sums if call.sums else None
        return Written(largest=written.largest, saturations=written.saturations, sums=sums)

    def reduce(self, call: Reduction) -> tuple[Ints, Ints]:
        """Sums of u and u*v, int64 (C,) each, or (N, C) per sample."""
        mask = None if call.mask is None else self.read(call.mask)
        sums, products = numerics.reduce(self.read(call.u), self.read(call.v), mask, call.mask_limit)
        return (sums, products) if call.per_sample else (sums.sum(axis=0), products.sum(axis=0))

    def _high_bits(self, tensor: DeviceTensor, kept: int) -> NDArray[Any]:
        values = self.read(tensor)
        if not kept:
            return values
        bits = 8 * values.dtype.itemsize
        return keep_high(values.astype(np.int64), bits=bits, kept=kept, signed=tensor.kind != "uint8")
