# SPDX-License-Identifier: Apache-2.0
"""Forward and grad_input in float32, on a CPU whose convolutions are plain multiply-add.

float32 holds every integer up to 2**24. The sum of |products| of one reduction bounds each of its
partial sums, in any order, so the channels are split into groups for which
``max|a| * sum|w| <= 2**24``: then no step rounds. Both operands have 8 bits at most (gy goes in as its
two bytes), so bfloat16 or TF32 products, should the user have allowed them, are exact too.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from e2train.devices.emulator.plain import round_saturate
from e2train.devices.protocol import ConvShape

__all__ = ["channel_groups", "forward", "grad_input"]

_EXACT = 1 << 24
_SLICE_BYTES = 1 << 21  # of float32 at a time: stays in caches, and malloc keeps the pages


def forward(x: Tensor, w: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``y``. Shapes: x (N, C, H, W), w (K, C, R, S), result int32 (N, K, P, Q)."""
    y = torch.empty((shape.N, shape.K, shape.P, shape.Q), dtype=torch.int32)
    if not shape.N:
        return y
    groups = channel_groups(w, _magnitude(x))
    weights = [w[:, group].float() for group in groups]
    top, bottom, left, right = shape.padding
    even = top == bottom and left == right
    for part in _slices(shape, copies=1):
        images = x[part].float()
        if not even:
            images = F.pad(images, (left, right, top, bottom))
        for index, (group, weight) in enumerate(zip(groups, weights, strict=True)):
            sums = F.conv2d(
                images[:, group], weight, stride=shape.stride, padding=(top, left) if even else (0, 0)
            )
            if index:
                y[part] += sums.to(torch.int32)
            else:
                y[part] = sums
    return y


def grad_input(gy: Tensor, w: Tensor, shape: ConvShape, shift: int) -> tuple[Tensor, int]:
    """Rounded ``gx`` and how many saturated. Shapes: gy (N, K, P, Q), result int32 (N, C, H, W)."""
    gx = torch.empty((shape.N, shape.C, shape.H, shape.W), dtype=torch.int32)
    if not shape.N:
        return gx, 0
    by_output = w.transpose(0, 1)
    groups = channel_groups(by_output, 128)
    longest = int(by_output.to(torch.int32).abs().sum((1, 2, 3)).amax())
    # The widest sum, a carry between bytes and the rounding: where they fit int32, int64 is not needed.
    narrow = 32_768 * longest + 256 * 128 + (1 << shift >> 1) < 1 << 31
    wide = torch.int32 if narrow else torch.int64
    weights = [w[group].float() for group in groups]
    saturations = 0
    for part in _slices(shape, copies=2):
        sums = torch.zeros((), dtype=wide)
        for group, weight in zip(groups, weights, strict=True):
            sums = sums + _spread_bytes(gy[part, group], weight, shape, wide)
        if narrow:
            gx[part] = sums.add_(1 << shift >> 1).bitwise_right_shift_(shift)
        else:
            gx[part], count = round_saturate(sums, shift)
            saturations += count
    return gx, saturations


def channel_groups(w: Tensor, magnitude: int) -> list[slice]:
    """Split the reduced channels (axis 1) so that ``magnitude * sum|w|`` of a group is at most 2**24.

    Raises: never, since one channel of a 7x7 kernel with operands of 255 and 128 stays below 2**21.
    """
    absolute = w.to(torch.int32).abs().sum((2, 3))
    if magnitude * int(absolute.sum(1).amax()) <= _EXACT:
        return [slice(0, w.shape[1])]
    groups, start, total = [], 0, 0
    for channel, largest in enumerate(absolute.amax(0).tolist()):
        if magnitude * (total + largest) > _EXACT:
            groups.append(slice(start, channel))
            start, total = channel, 0
        total += largest
    return [*groups, slice(start, w.shape[1])]


def _spread_bytes(gy: Tensor, weight: Tensor, shape: ConvShape, wide: torch.dtype) -> Tensor:
    """Transposed convolution of int16 ``gy``: its bytes, balanced about zero, as two float32 batches."""
    high = (gy.to(torch.int32) + 128) >> 8  # -128 .. 128
    low = gy - (high << 8)  # -128 .. 127
    top, bottom, left, right = shape.padding
    even = top == bottom and left == right
    rest = (
        shape.H + top + bottom - shape.R - (shape.P - 1) * shape.stride[0],
        shape.W + left + right - shape.S - (shape.Q - 1) * shape.stride[1],
    )  # rows and columns that no window reaches
    spread = F.conv_transpose2d(
        torch.cat([high, low]).float(),
        weight,
        stride=shape.stride,
        padding=(top, left) if even else (0, 0),
        output_padding=rest,
    )
    if not even:
        spread = spread[:, :, top : top + shape.H, left : left + shape.W]
    high_sums, low_sums = spread.to(wide).chunk(2)
    return (high_sums << 8) + low_sums


def _magnitude(x: Tensor) -> int:
    low, high = torch.aminmax(x)
    return max(-int(low), int(high))


def _slices(shape: ConvShape, *, copies: int) -> Iterator[slice]:
    picture = 4 * copies * max(shape.C * shape.H * shape.W, shape.K * shape.P * shape.Q)
    step = max(1, _SLICE_BYTES // picture)
    return (slice(start, start + step) for start in range(0, shape.N, step))
