# SPDX-License-Identifier: Apache-2.0
"""The three convolutions as float64 matrix products: exact to 2**53 on every device, and slow.

Every sum here is below 2**48 (numerics.md). Matrix products are used, never a library's convolution,
which may choose a Winograd or Fourier algorithm.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from e2train.devices.protocol import ConvShape

__all__ = ["forward", "grad_input", "grad_weight", "keep_high", "round_saturate"]

_COLUMN_BYTES = 1 << 26  # of one unfolded slice of the batch
_INT32 = (-(1 << 31), (1 << 31) - 1)


def forward(x: Tensor, w: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``y``. Shapes: x (N, C, H, W), w (K, C, R, S), result int32 (N, K, P, Q)."""
    y = torch.empty((shape.N, shape.K, shape.P, shape.Q), dtype=torch.int32, device=x.device)
    weights = w.double().flatten(1)
    for part in _slices(shape):
        y[part] = (weights @ _columns(x[part], shape)).view(-1, shape.K, shape.P, shape.Q).to(torch.int32)
    return y


def grad_input(gy: Tensor, w: Tensor, shape: ConvShape, shift: int) -> tuple[Tensor, int]:
    """Rounded ``gx`` and how many saturated. Shapes: gy (N, K, P, Q), result int32 (N, C, H, W)."""
    top, bottom, left, right = shape.padding
    padded = (shape.H + top + bottom, shape.W + left + right)
    gx = torch.empty((shape.N, shape.C, shape.H, shape.W), dtype=torch.int32, device=gy.device)
    weights = w.double().flatten(1).t()
    saturations = 0
    for part in _slices(shape):
        spread = F.fold(
            weights @ gy[part].double().flatten(2), padded, (shape.R, shape.S), stride=shape.stride
        )
        inner = spread[:, :, top : top + shape.H, left : left + shape.W].to(torch.int64)
        gx[part], count = round_saturate(inner, shift)
        saturations += count
    return gx, saturations


def grad_weight(x: Tensor, gy: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``gw``. Shapes: x (N, C, H, W), gy (N, K, P, Q), result int64 (K, C, R, S)."""
    gw = torch.zeros((shape.K, shape.C * shape.R * shape.S), dtype=torch.float64, device=x.device)
    for part in _slices(shape):
        gw += (gy[part].double().flatten(2) @ _columns(x[part], shape).transpose(1, 2)).sum(0)
    return gw.to(torch.int64).view(shape.K, shape.C, shape.R, shape.S)


def round_saturate(sums: Tensor, shift: int) -> tuple[Tensor, int]:
    """numerics.round_shift, then numerics.saturate to int32. Overwrites the int64 ``sums``."""
    if shift:
        sums.add_(1 << shift - 1).bitwise_right_shift_(shift)
    fitted = sums.to(torch.int32)
    count = int(torch.count_nonzero(fitted != sums))
    return (sums.clamp_(*_INT32).to(torch.int32) if count else fitted), count


def keep_high(raw: Tensor, *, bits: int, kept: int) -> Tensor:
    """numerics.keep_high, of a tensor whose dtype tells the sign."""
    shift, signed = bits - kept, raw.dtype.is_signed
    rounded = (raw.to(torch.int32) + (1 << shift >> 1)) >> shift
    return rounded.clamp_(max=(1 << kept - signed) - 1).to(torch.int16)


def _columns(x: Tensor, shape: ConvShape) -> Tensor:
    top, bottom, left, right = shape.padding
    padded = F.pad(x.double(), (left, right, top, bottom))
    return F.unfold(padded, (shape.R, shape.S), stride=shape.stride)


def _slices(shape: ConvShape) -> Iterator[slice]:
    """The batch in slices whose unfolded samples stay small."""
    sample_bytes = 8 * shape.C * shape.R * shape.S * shape.P * shape.Q
    step = max(1, _COLUMN_BYTES // sample_bytes)
    return (slice(start, start + step) for start in range(0, shape.N, step))
