# SPDX-License-Identifier: Apache-2.0
"""The resident step in torch: on a GPU, where no compiler is installed, and as a second opinion in tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from e2train.devices.emulator import depthwise, plain
from e2train.devices.emulator.device import Emulator
from e2train.devices.memory import check_access, check_values
from e2train.devices.protocol import Closing, Counters, LayerCall
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Reduction, WeightGradient
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import LARGEST, Kind, View, Written, kind_range
from e2train.numerics.rounding import DITHER_BITS, Ints, dither_phases

__all__ = ["TorchResident"]

_DTYPES = {"uint8": torch.uint8, "int8": torch.int8, "int16": torch.int16}


class TorchResident(Closing):
    """Bytes in a torch tensor stand for the device's memory."""

    name = "emulator"
    memory_bytes: int | None = None

    def __init__(self, host: str = "cpu") -> None:
        self._host = torch.device(host)
        self._emulator = Emulator()
        self._memory = torch.empty(0, dtype=torch.uint8, device=self._host)

    def reserve(self, nbytes: int) -> None:
        """Have at least so much memory; where it has to grow, what was in it is lost."""
        if nbytes > self._memory.numel():
            self._memory = torch.zeros(nbytes, dtype=torch.uint8, device=self._host)

    def write(self, tensor: DeviceTensor, values: NDArray[Any]) -> None:
        """Put values (N, C, H, W) of the tensor's kind into the memory.

        Raises: ShapeError when they are not of its shape and kind.
        """
        check_values(tensor, values)
        self._put(tensor, torch.from_numpy(np.ascontiguousarray(values)).to(self._host))

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        """Values (N, C, H, W) from the memory."""
        values: NDArray[Any] = self._get(tensor).cpu().numpy()
        return values

    def convolve(self, call: Convolution) -> Written:
        """Compute a convolution into the memory."""
        w = torch.from_numpy(np.ascontiguousarray(call.w)).to(self._host)
        source, backward = self._get(call.source), call.mode == "grad_input"
        if call.depthwise:
            sums = (depthwise.grad_input if backward else depthwise.forward)(source, w, call.shape)
            raw = _round_shift(sums, call.shift)
        else:
            raw = self._rounded(call, source, w)
        values, written = _fit(raw, call.destination.kind)
        self._put(call.destination, values)
        if not call.sums:
            return written
        wide = values.to(torch.int64)
        return Written(
            largest=written.largest,
            saturations=written.saturations,
            sums=_ints(wide.sum((0, 2, 3))),
            squares=_ints((wide * wide).sum((0, 2, 3))),
        )

    def weight_gradient(self, call: WeightGradient) -> Ints:
        """The weight gradient, int64 (K, C, R, S), or (C, 1, R, S) of a depthwise convolution."""
        x, gy = self._get(call.x), self._get(call.gy)
        if call.x_bits:
            x = plain.keep_high(x, bits=8, kept=call.x_bits).to(x.dtype)
        if call.g_bits:
            gy = plain.keep_high(gy, bits=8 * gy.itemsize, kept=call.g_bits)
        if call.depthwise:
            return _ints(depthwise.grad_weight(x, gy, call.shape))
        full = LayerCall(mode="grad_weight", shape=call.shape, a=x, b=gy.to(torch.int16), name=call.name)
        return _ints(self._emulator.compute(full).value)

    def affine(self, call: Affine) -> Written:
        """Compute an affine operation into the memory."""
        size = call.out.shape[1:]
        u, v, mask = (
            None if tensor is None else _seen(self._get(tensor), tensor.view, size)
            for tensor in (call.u, call.v, call.mask)
        )
        a, b, d = (
            torch.from_numpy(values).to(self._host).view(-1, 1, 1) for values in (call.a, call.b, call.d)
        )
        assert u is not None
        if mask is not None and not call.mask_out:
            u = u * _opens(mask, call.mask_limit)
        total = a * u + d
        if v is not None:
            total = total + b * v
        if call.dither is None:
            value = _round_shift(total, call.shift)
        else:
            phases = torch.from_numpy(dither_phases(size, call.dither)).to(self._host)
            fine = total << DITHER_BITS >> call.shift
            value = (fine + 2 * phases + 1) >> DITHER_BITS  # numerics.dithered_shift
        if call.relu:
            value = value.clamp(min=0)
        value = value.clamp(max=call.ceiling)
        if mask is not None and call.mask_out:
            value = value * _opens(mask, call.mask_limit)
        values, written = _fit(value, call.out.kind)
        self._put(call.out, values)
        sums = _ints(values.sum((2, 3), dtype=torch.int64)) if call.sums else None
        return Written(largest=written.largest, saturations=written.saturations, sums=sums)

    def take_counters(self) -> Counters:
        """An emulator has no clock and no frames."""
        return Counters()

    def reduce(self, call: Reduction) -> tuple[Ints, Ints]:
        """Sums of u and u*v, int64 (C,) each, or (N, C) per sample."""
        u, v = self._get(call.u).to(torch.int64), self._get(call.v).to(torch.int64)
        if call.mask is not None:
            u = u * _opens(self._get(call.mask).to(torch.int64), call.mask_limit)
        axes = (2, 3) if call.per_sample else (0, 2, 3)
        return _ints(u.sum(axes)), _ints((u * v).sum(axes))

    def close(self) -> None:
        """Let the memory go."""
        self._memory = torch.empty(0, dtype=torch.uint8, device=self._host)

    def _rounded(self, call: Convolution, source: Tensor, w: Tensor) -> Tensor:
        """Sums over all input channels, rounded to int64."""
        backward = call.mode == "grad_input"
        sums: Tensor = self._emulator.compute(
            LayerCall(
                mode=call.mode,
                shape=call.shape,
                a=source.to(torch.int16) if backward else source,
                b=w,
                shift=call.shift if backward else 0,
                name=call.name,
            )
        ).value.to(torch.int64)
        return sums if backward else _round_shift(sums, call.shift)

    def _bytes(self, tensor: DeviceTensor) -> Tensor:
        """Indices of a tensor's bytes. Shapes: (N, bytes of a sample)."""
        check_access(self._memory.numel(), tensor)
        offsets = torch.tensor(tensor.offsets).to(self._host)
        return offsets[:, None] + torch.arange(tensor.sample_bytes, device=self._host)

    def _get(self, tensor: DeviceTensor) -> Tensor:
        raw = self._memory[self._bytes(tensor)].view(_DTYPES[tensor.kind])
        N, C, H, W = tensor.shape
        blocks = raw.view(N, block_count(C), H, W, LANES).permute(0, 1, 4, 2, 3)
        return blocks.reshape(N, block_count(C) * LANES, H, W)[:, :C].contiguous()

    def _put(self, tensor: DeviceTensor, values: Tensor) -> None:
        N, C, H, W = tensor.shape
        blocks = block_count(C)
        padded = values.new_zeros((N, blocks * LANES, H, W))
        padded[:, :C] = values
        raw = padded.view(N, blocks, LANES, H, W).permute(0, 1, 3, 4, 2).contiguous()
        self._memory[self._bytes(tensor)] = raw.view(N, blocks * LANES * H * W).view(torch.uint8)


def _round_shift(raw: Tensor, shift: int) -> Tensor:
    return raw if shift == 0 else (raw + (1 << shift - 1)) >> shift


def _opens(mask: Tensor, limit: int) -> Tensor:
    """numerics.elementwise.opens"""
    return (mask > 0) & (mask < limit)


def _fit(raw: Tensor, kind: Kind) -> tuple[Tensor, Written]:
    fitted = raw.clamp(*kind_range(kind))
    largest = min(int(raw.abs().max()), LARGEST) if raw.numel() else 0
    return fitted.to(_DTYPES[kind]), Written(
        largest=largest, saturations=int(torch.count_nonzero(fitted != raw))
    )


def _seen(x: Tensor, view: View, size: tuple[int, int, int]) -> Tensor:
    """numerics.seen"""
    C, H, W = size
    out = torch.zeros((len(x), max(C, x.shape[1]), H, W), dtype=torch.int64, device=x.device)
    if view == "strided":
        out[:, : x.shape[1]] = x[:, :, ::2, ::2]
    elif view == "spread":
        out[:, : x.shape[1], ::2, ::2] = x.to(torch.int64)
    else:
        out[:, : x.shape[1]] = x
    return out[:, :C]


def _ints(values: Tensor) -> Ints:
    found: Ints = values.cpu().numpy()
    return found
