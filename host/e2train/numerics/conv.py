# SPDX-License-Identifier: Apache-2.0
"""The three convolutions of a training step on integers: what every device must equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.rounding import Ints

__all__ = ["conv_forward", "conv_grad_input", "conv_grad_weight"]

Tensor = NDArray[np.integer[Any]]
Stride = tuple[int, int]
Padding = tuple[int, int, int, int]  # top, bottom, left, right


def conv_forward(x: Tensor, w: Tensor, *, stride: Stride, padding: Padding) -> Ints:
    """Cross-correlate x with w: ``y[n,k,p,q] = sum x[n,c,p*u+r-top,q*v+s-left] * w[k,c,r,s]``.

    With weights of one input channel, for x of more, the convolution is depthwise: c is k.

    Shapes: x (N, C, H, W), w (K, C, R, S) or (C, 1, R, S), result (N, K, P, Q).
    """
    padded = _pad(x, padding)
    rows, cols = _out_size(padded, w, stride)
    terms = "ncpq,kc->nkpq" if w.shape[1] == x.shape[1] else "nkpq,kc->nkpq"
    y = np.zeros((x.shape[0], w.shape[0], rows, cols), np.int64)
    for r, s, window in _taps(w.shape[2:], rows, cols, stride):
        y += np.einsum(terms, padded[window], w[:, :, r, s].astype(np.int64))
    return y


def conv_grad_input(
    gy: Tensor,
    w: Tensor,
    *,
    size: tuple[int, int],
    stride: Stride,
    padding: Padding,
    depthwise: bool = False,
) -> Ints:
    """Gradient of conv_forward for x: every product goes back to where its x came from.

    Shapes: gy (N, K, P, Q), w (K, C, R, S), or if ``depthwise`` (C, 1, R, S); result (N, C, H, W) with
    (H, W) = ``size``.
    """
    top, bottom, left, right = padding
    channels = w.shape[0] if depthwise else w.shape[1]
    terms = "nkpq,kc->nkpq" if depthwise else "nkpq,kc->ncpq"
    padded = np.zeros((gy.shape[0], channels, size[0] + top + bottom, size[1] + left + right), np.int64)
    wide = gy.astype(np.int64)
    for r, s, window in _taps(w.shape[2:], gy.shape[2], gy.shape[3], stride):
        padded[window] += np.einsum(terms, wide, w[:, :, r, s].astype(np.int64))
    return padded[:, :, top : top + size[0], left : left + size[1]]


def conv_grad_weight(
    x: Tensor,
    gy: Tensor,
    *,
    kernel: tuple[int, int],
    stride: Stride,
    padding: Padding,
    depthwise: bool = False,
) -> Ints:
    """Gradient of conv_forward for w: correlate x with gy over samples and positions.

    Shapes: x (N, C, H, W), gy (N, K, P, Q), result (K, C, R, S), or if ``depthwise`` (C, 1, R, S), with
    (R, S) = ``kernel``.
    """
    padded = _pad(x, padding)
    wide = gy.astype(np.int64)
    gw = np.zeros((gy.shape[1], 1 if depthwise else x.shape[1], *kernel), np.int64)
    for r, s, window in _taps(kernel, gy.shape[2], gy.shape[3], stride):
        if depthwise:
            gw[:, 0, r, s] = np.einsum("ncpq,ncpq->c", padded[window], wide)
        else:
            gw[:, :, r, s] = np.einsum("ncpq,nkpq->kc", padded[window], wide)
    return gw


def _pad(x: Tensor, padding: Padding) -> Ints:
    top, bottom, left, right = padding
    return np.pad(x.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))


def _out_size(padded: Ints, w: Tensor, stride: Stride) -> tuple[int, int]:
    return (
        (padded.shape[2] - w.shape[2]) // stride[0] + 1,
        (padded.shape[3] - w.shape[3]) // stride[1] + 1,
    )


def _taps(
    kernel: tuple[int, ...], rows: int, cols: int, stride: Stride
) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
    """Each kernel position, with the part of the padded image that it meets."""
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            down = slice(r, r + (rows - 1) * stride[0] + 1, stride[0])
            right = slice(s, s + (cols - 1) * stride[1] + 1, stride[1])
            yield r, s, (slice(None), slice(None), down, right)
