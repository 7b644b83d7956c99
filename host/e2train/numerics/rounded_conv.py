# SPDX-License-Identifier: Apache-2.0
"""Convolutions whose results stay in the device's memory as 8 or 16 bits: what every device must equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.conv import Padding, Stride, conv_forward, conv_grad_input
from e2train.numerics.elementwise import Kind, Written, fit
from e2train.numerics.rounding import round_shift

__all__ = ["rounded_forward", "rounded_grad_input"]


def rounded_forward(
    x: NDArray[Any], w: NDArray[Any], *, stride: Stride, padding: Padding, shift: int, kind: Kind
) -> tuple[NDArray[Any], Written]:
    """``saturate(round_shift(conv(x, w), shift))`` with sums and sums of squares by channel.

    Shapes: x (N, C, H, W), w (K, C, R, S), or (C, 1, R, S) of a depthwise one, result (N, K, P, Q); the
    report's sums (K,).

    >>> x, w = np.full((1, 1, 1, 2), 5, np.uint8), np.ones((1, 1, 1, 1), np.int8)
    >>> y, report = rounded_forward(x, w, stride=(1, 1), padding=(0, 0, 0, 0), shift=1, kind="int8")
    >>> y[0, 0, 0].tolist(), report.sums.tolist(), report.squares.tolist()
    ([3, 3], [6], [18])
    """
    raw = round_shift(conv_forward(x, w, stride=stride, padding=padding), shift)
    y, report = fit(raw, kind)
    wide = y.astype(np.int64)
    return y, replace(report, sums=wide.sum(axis=(0, 2, 3)), squares=(wide * wide).sum(axis=(0, 2, 3)))


def rounded_grad_input(
    gy: NDArray[Any],
    w: NDArray[Any],
    *,
    size: tuple[int, int],
    stride: Stride,
    padding: Padding,
    shift: int,
    kind: Kind,
    depthwise: bool = False,
) -> tuple[NDArray[Any], Written]:
    """``saturate(round_shift(conv_transpose(gy, w), shift))``.

    Shapes: gy (N, K, P, Q), w (K, C, R, S), or if ``depthwise`` (C, 1, R, S); result (N, C, H, W) with
    (H, W) = ``size``.
    """
    raw = conv_grad_input(gy, w, size=size, stride=stride, padding=padding, depthwise=depthwise)
    return fit(round_shift(raw, shift), kind)
