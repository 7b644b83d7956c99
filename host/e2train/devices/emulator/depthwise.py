# SPDX-License-Identifier: Apache-2.0
"""The three convolutions where each channel gives one of its own, as int64 sums over taps."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from e2train.devices.protocol import ConvShape

__all__ = ["forward", "grad_input", "grad_weight"]

Window = tuple[slice, ...]


def forward(x: Tensor, w: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``y``. Shapes: x (N, C, H, W), w (C, 1, R, S), result int64 (N, C, P, Q)."""
    padded = _pad(x, shape)
    y = padded.new_zeros((shape.N, shape.C, shape.P, shape.Q))
    for r, s, window in _taps(shape):
        y += padded[window] * w[:, :, r, s, None]
    return y


def grad_input(gy: Tensor, w: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``gx``. Shapes: gy (N, C, P, Q), w (C, 1, R, S), result int64 (N, C, H, W)."""
    top, bottom, left, right = shape.padding
    padded = gy.new_zeros(
        (shape.N, shape.C, shape.H + top + bottom, shape.W + left + right), dtype=torch.int64
    )
    for r, s, window in _taps(shape):
        padded[window] += gy.to(torch.int64) * w[:, :, r, s, None]
    return padded[:, :, top : top + shape.H, left : left + shape.W]


def grad_weight(x: Tensor, gy: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``gw``. Shapes: x (N, C, H, W), gy (N, C, P, Q), result int64 (C, 1, R, S)."""
    padded = _pad(x, shape)
    gw = padded.new_zeros((shape.C, 1, shape.R, shape.S))
    for r, s, window in _taps(shape):
        gw[:, 0, r, s] = (padded[window] * gy).sum((0, 2, 3))
    return gw


def _pad(x: Tensor, shape: ConvShape) -> Tensor:
    top, bottom, left, right = shape.padding
    return F.pad(x.to(torch.int64), (left, right, top, bottom))


def _taps(shape: ConvShape) -> Iterator[tuple[int, int, Window]]:
    """Each kernel position, with the part of the padded image that it meets."""
    (u, v), every = shape.stride, slice(None)
    for r in range(shape.R):
        for s in range(shape.S):
            down = slice(r, r + (shape.P - 1) * u + 1, u)
            yield r, s, (every, every, down, slice(s, s + (shape.Q - 1) * v + 1, v))
