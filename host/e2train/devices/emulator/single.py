# SPDX-License-Identifier: Apache-2.0
"""The three convolutions in float32, on a CPU whose convolutions are plain multiply-add.

float32 holds every integer up to 2**24. The sum of |products| of one reduction bounds each of its
partial sums, in any order. So forward and grad_input split the channels into groups for which
``max|a| * sum|w| <= 2**24``, and grad_weight splits samples and positions into parts of at most 2**10
products of 2**14: then no step rounds. Both operands have 8 bits at most (gy goes in as its two bytes), so
bfloat16 or TF32 products, should the user have allowed them, are exact too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from e2train.devices.emulator.plain import round_saturate
from e2train.devices.protocol import ConvShape
from e2train.numerics.frames.layout import G_BITS, X_BITS

__all__ = ["channel_groups", "correlate", "forward", "grad_input", "grad_msb", "grad_weight"]

_EXACT = 1 << 24
_BYTE_TERMS = _EXACT >> 14  # products of two bytes
_MSB_TERMS = _EXACT >> X_BITS + G_BITS - 1  # products of high bits
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


def grad_weight(x: Tensor, gy: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``gw``. Shapes: x (N, C, H, W), gy (N, K, P, Q), result int64 (K, C, R, S).

    Both operands as signed bytes: uint8 x less 128, which the sum of gy makes up for.
    """
    signed, offset = (x, 0) if x.dtype == torch.int8 else ((x ^ 128).view(torch.int8), 128)
    sums = torch.zeros((2 * shape.K, shape.C, shape.R, shape.S), dtype=torch.float64)
    for part in _slices(shape, copies=2):
        high, low = _bytes(gy[part])
        sums += correlate(signed[part], torch.cat([high, low], dim=1), shape, zero=-offset, terms=_BYTE_TERMS)
    high_sums, low_sums = sums.to(torch.int64).chunk(2)
    gw = (high_sums << 8) + low_sums
    if offset:
        gw += offset * gy.sum((0, 2, 3), dtype=torch.int64).view(-1, 1, 1, 1)
    return gw


def grad_msb(x: Tensor, gy: Tensor, shape: ConvShape) -> Tensor:
    """Exact ``gw`` of high bits. Shapes: x (N, C, H, W), gy (N, K, P, Q), result int64 (K, C, R, S)."""
    sums = torch.zeros((shape.K, shape.C, shape.R, shape.S), dtype=torch.float64)
    for part in _slices(shape, copies=1):
        sums += correlate(x[part], gy[part], shape, zero=0, terms=_MSB_TERMS)
    return sums.to(torch.int64)


def correlate(x: Tensor, gy: Tensor, shape: ConvShape, *, zero: int, terms: int) -> Tensor:
    """Sums of at most ``terms`` products in float32, added up in float64; ``zero`` is what padding holds.

    Shapes: x (n, C, H, W), gy (n, k, P, Q), result (k, C, R, S).
    """
    top, bottom, left, right = shape.padding
    padded = F.pad(x.float(), (left, right, top, bottom), value=zero)
    wide = gy.float()
    cols = min(shape.Q, terms)
    rows = min(shape.P, terms // cols)
    sums = torch.zeros((gy.shape[1], shape.C, shape.R, shape.S), dtype=torch.float64)
    for p, q in product(range(0, shape.P, rows), range(0, shape.Q, cols)):
        gy_part = wide[:, :, p : p + rows, q : q + cols]
        y, x0 = p * shape.stride[0], q * shape.stride[1]
        height = (gy_part.shape[2] - 1) * shape.stride[0] + shape.R
        width = (gy_part.shape[3] - 1) * shape.stride[1] + shape.S
        samples = terms // (gy_part.shape[2] * gy_part.shape[3])
        sums += _correlate_samples(padded[:, :, y : y + height, x0 : x0 + width], gy_part, shape, samples)
    return sums


def _correlate_samples(x: Tensor, gy: Tensor, shape: ConvShape, most: int) -> Tensor:
    """Weight gradients of ``most`` samples at a time, as the groups of one grouped convolution."""
    n = x.shape[0]
    each = min(n, most)
    groups, rest = divmod(n, each)
    operands = [_side_by_side(tensor[: n - rest], groups) for tensor in (gy, x)]
    kernel = torch.empty((groups * gy.shape[1], shape.C, shape.R, shape.S))  # only its shape counts
    geometry = (None, shape.stride, (0, 0), (1, 1), False, (0, 0), groups, (False, True, False))
    gw = torch.ops.aten.convolution_backward(*operands, kernel, *geometry)[1]
    total: Tensor = gw.view(groups, gy.shape[1], *gw.shape[1:]).sum(0, dtype=torch.float64)
    return total + _correlate_samples(x[n - rest :], gy[n - rest :], shape, most) if rest else total


def _side_by_side(samples: Tensor, groups: int) -> Tensor:
    """Shapes: (groups * n, c, h, w) to (n, groups * c, h, w)."""
    return samples.reshape(groups, -1, *samples.shape[1:]).transpose(0, 1).flatten(1, 2)


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
    high, low = _bytes(gy)
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


def _bytes(gy: Tensor) -> tuple[Tensor, Tensor]:
    """gy = 256 * high + low, with high in -128..128 and low in -128..127."""
    high = (gy.to(torch.int32) + 128) >> 8
    return high, gy - (high << 8)


def _magnitude(x: Tensor) -> int:
    low, high = torch.aminmax(x)
    return max(-int(low), int(high))


def _slices(shape: ConvShape, *, copies: int) -> Iterator[slice]:
    sample_bytes = 4 * copies * max(shape.C * shape.H * shape.W, shape.K * shape.P * shape.Q)
    step = max(1, _SLICE_BYTES // sample_bytes)
    return (slice(start, start + step) for start in range(0, shape.N, step))
