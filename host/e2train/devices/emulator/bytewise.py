# SPDX-License-Identifier: Apache-2.0
"""grad_weight as one int8 matrix product, whose long reduction float32 could not hold.

    gy = 256 * high + low + 128,   x = x8 + offset   (offset 128 for uint8 x, else 0; every part int8)
    sum x*gy = 256 * sum x8*high + sum x8*low + 128 * sum x8 + offset * sum gy

All positions of one (padded) picture row by row form one long axis; a kernel tap is then a shift along it,
so a column is a plain copy. gy is zero where the axis holds no output position.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from e2train.devices.protocol import ConvShape

__all__ = ["grad_weight", "is_exact"]

_INT32_TERMS = (1 << 17) - 1  # products of up to 2**14 whose sum stays below 2**31
_COLUMN_BYTES = 1 << 21
_ALIGN = 64  # positions; also keeps _int_mm away from a reduction of length 1, which it gets wrong


def grad_weight(x: Tensor, gy: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``gw``. Shapes: x (N, C, H, W), gy (N, K, P, Q), result int64 (K, C, R, S)."""
    taps = shape.R * shape.S
    sums = torch.zeros((shape.C * taps, 2 * shape.K + 1), dtype=torch.int64)
    if shape.N:
        planes, grid = _phase_planes(x, shape)
        bytes_of_gy = _byte_rows(gy, grid)
        length = bytes_of_gy.shape[1]
        step = min(_INT32_TERMS, max(1, _COLUMN_BYTES // (shape.C * taps)))
        for start in range(0, length, step):
            stop = min(length, start + step)
            columns = _columns(planes, shape, grid[1], start, stop)
            sums += torch._int_mm(columns, bytes_of_gy[:, start:stop].t())
    low, high, ones = sums[:, : shape.K], sums[:, shape.K : -1], sums[:, -1:]
    gw = 256 * high + low + 128 * ones
    if x.dtype == torch.uint8:
        gw += 128 * gy.sum((0, 2, 3), dtype=torch.int64)
    return gw.t().reshape(shape.K, shape.C, shape.R, shape.S).contiguous()


@cache
def is_exact() -> bool:
    """Whether this CPU's int8 products hold the worst case: without VNNI, pairs saturate at 16 bits."""
    signs = torch.tensor([-128, 127, -128, 127, 127, -128, -128, -128], dtype=torch.int8).repeat(512)
    lowest, highest = torch.full_like(signs, -128), torch.full_like(signs, 127)
    a = torch.stack([signs, signs.flip(0), lowest, highest]).repeat(8, 1)
    try:
        got = torch._int_mm(a, a.t())
    except (AttributeError, RuntimeError):  # an older torch
        return False
    return torch.equal(got.double(), a.double() @ a.double().t())


def _phase_planes(x: Tensor, shape: ConvShape) -> tuple[Tensor, tuple[int, int]]:
    """The padded picture as int8, one plane per residue of row and column by the stride, and a plane's size.

    Shapes: planes (C, row phases, column phases, axis).
    """
    top, bottom, left, right = shape.padding
    down, across = shape.stride
    grid = (-(-(shape.H + top + bottom) // down), -(-(shape.W + left + right) // across))
    phases = (min(down, shape.R), min(across, shape.S))
    positions = shape.N * grid[0] * grid[1]
    slack = shape.R * grid[1] + shape.S + _ALIGN  # the last taps reach beyond the pictures, where gy is zero
    signed, zero = (x, 0) if x.dtype == torch.int8 else ((x ^ 128).view(torch.int8), -128)
    planes = torch.full((shape.C, *phases, positions + slack), zero, dtype=torch.int8)
    pictures = planes[..., :positions].view(shape.C, *phases, shape.N, *grid)
    for i in range(phases[0]):
        for j in range(phases[1]):
            row, col = (i - top) % down, (j - left) % across  # first picture row and column of this phase
            part = signed[:, :, row::down, col::across].transpose(0, 1)
            y, z = (row + top) // down, (col + left) // across
            pictures[:, i, j, :, y : y + part.shape[2], z : z + part.shape[3]] = part
    return planes, grid


def _byte_rows(gy: Tensor, grid: tuple[int, int]) -> Tensor:
    """Low bytes (less 128), high bytes and a row of ones. Shapes: (2*K + 1, axis)."""
    N, K, P, Q = gy.shape
    positions = N * grid[0] * grid[1]
    rows = torch.zeros((2 * K + 1, (positions // _ALIGN + 1) * _ALIGN), dtype=torch.int8)
    pictures = rows[:, :positions].view(2 * K + 1, N, *grid)
    wide = gy.transpose(0, 1)
    pictures[:K, :, :P, :Q] = (wide & 255) - 128
    pictures[K:-1, :, :P, :Q] = wide >> 8
    pictures[-1, :, :P, :Q] = 1
    return rows


def _columns(planes: Tensor, shape: ConvShape, width: int, start: int, stop: int) -> Tensor:
    """What each tap sees from ``start`` to ``stop`` of the axis. Shapes: (C*R*S, stop - start)."""
    down, across = shape.stride
    columns = torch.empty((shape.C, shape.R, shape.S, stop - start), dtype=torch.int8)
    for r in range(shape.R):
        for s in range(shape.S):
            shift = r // down * width + s // across
            columns[:, r, s] = planes[:, r % down, s % across, start + shift : stop + shift]
    return columns.flatten(0, 2)
