# SPDX-License-Identifier: Apache-2.0
"""Resident tensors and their operations in C++, on as many threads as asked for."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.memory import HostMemory
from e2train.devices.native.library import (
    AffineCall,
    ConvolutionCall,
    Geometry,
    ReductionCall,
    Tensor,
    WeightGradientCall,
    address,
    library,
)
from e2train.devices.protocol import ConvShape, DeviceError
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Reduction, WeightGradient
from e2train.numerics.blocks import LANES, block_count
from e2train.numerics.elementwise import Written
from e2train.numerics.rounding import Ints

__all__ = ["NativeResident"]


class NativeResident(HostMemory):
    """The native emulator; its results do not depend on the number of threads."""

    name = "emulator"

    def __init__(self, *, threads: int = 1, defines: tuple[str, ...] = ()) -> None:
        """Raises: DeviceError when the C++ cannot be compiled here."""
        super().__init__()
        self._library = library(defines)
        self._pool = self._library.e2_pool_new(threads)

    def convolve(self, call: Convolution) -> Written:
        """Compute a convolution into the memory."""
        self._check(call.source, call.destination)
        w = np.ascontiguousarray(call.w)
        sums, squares = (_per_channel(call.destination) if call.sums else None for _ in range(2))
        native = ConvolutionCall(
            Tensor.of(call.source),
            Tensor.of(call.destination),
            _geometry(call.shape, depthwise=call.depthwise),
            call.mode == "grad_input",
            call.shift,
            address(w),
            address(sums),
            address(squares),
        )
        self._run("convolution", call.source.N, native)
        return Written(
            largest=native.largest,
            saturations=native.saturations,
            sums=_totals(sums, call.destination.C),
            squares=_totals(squares, call.destination.C),
        )

    def weight_gradient(self, call: WeightGradient) -> Ints:
        """The weight gradient, int64 (K, C, R, S), or (C, 1, R, S) of a depthwise convolution."""
        self._check(call.x, call.gy)
        gw = np.zeros(call.weights, np.int64)
        native = WeightGradientCall(
            Tensor.of(call.x),
            Tensor.of(call.gy),
            _geometry(call.shape, depthwise=call.depthwise),
            call.x_bits,
            call.g_bits,
            address(gw),
        )
        self._run("weight_gradient", call.x.N, native)
        return gw

    def affine(self, call: Affine) -> Written:
        """Compute an affine operation into the memory."""
        self._check(call.u, call.v, call.mask, call.out)
        a, b, d = (_padded(values) for values in (call.a, call.b, call.d))
        sums = _per_channel(call.out) if call.sums else None
        native = AffineCall(
            *(Tensor.of(tensor) for tensor in (call.u, call.v, call.mask, call.out)),
            *map(address, (a, b, d)),
            call.shift,
            call.relu,
            call.ceiling,
            call.mask_limit,
            call.mask_out,
            -1 if call.dither is None else call.dither,
            address(sums),
        )
        self._run("affine", call.out.N, native)
        return Written(
            largest=native.largest,
            saturations=native.saturations,
            sums=None if sums is None else sums[:, : call.out.C],
        )

    def reduce(self, call: Reduction) -> tuple[Ints, Ints]:
        """Sums of u and u*v, int64 (C,) each, or (N, C) per sample."""
        self._check(call.u, call.v, call.mask)
        sums, products = _per_channel(call.u), _per_channel(call.u)
        native = ReductionCall(
            *(Tensor.of(tensor) for tensor in (call.u, call.v, call.mask)),
            call.mask_limit,
            address(sums),
            address(products),
        )
        self._run("reduce", call.u.N, native)
        found = sums[:, : call.u.C], products[:, : call.u.C]
        return found if call.per_sample else (found[0].sum(axis=0), found[1].sum(axis=0))

    def close(self) -> None:
        """End the threads and let the memory go."""
        super().close()
        if self._pool is not None:
            self._library.e2_pool_delete(self._pool)
            self._pool = None

    def _run(self, name: str, samples: int, call: ctypes.Structure) -> None:
        if self._pool is None:
            raise DeviceError("the native emulator is closed")
        function = getattr(self._library, f"e2_{name}")
        if function(self._pool, self._memory.ctypes.data, samples, ctypes.byref(call)):
            raise DeviceError(f"the native emulator has no memory left for {name}; use a smaller --batch")


def _geometry(s: ConvShape, *, depthwise: bool) -> Geometry:
    return Geometry(s.K, s.C, s.R, s.S, *s.stride, s.padding[0], s.padding[2], depthwise)


def _per_channel(tensor: DeviceTensor) -> Ints:
    return np.zeros((tensor.N, block_count(tensor.C) * LANES), np.int64)


def _totals(per_sample: Ints | None, channels: int) -> Ints | None:
    return None if per_sample is None else per_sample[:, :channels].sum(axis=0)


def _padded(values: NDArray[Any]) -> NDArray[np.int32]:
    if values.size % LANES == 0:
        return values.astype(np.int32)
    padded = np.zeros(block_count(values.size) * LANES, np.int32)
    padded[: values.size] = values
    return padded
