# SPDX-License-Identifier: Apache-2.0
"""The element-wise operations of a resident training step on integers: what every device must equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.rounding import Ints, dither_phases, dithered_shift, round_shift

__all__ = [
    "COEFFICIENT_LIMIT",
    "KINDS",
    "LARGEST",
    "OFFSET_LIMIT",
    "SHIFT_LIMIT",
    "VIEWS",
    "Kind",
    "View",
    "Written",
    "affine",
    "fit",
    "kind_range",
    "opens",
    "reduce",
    "seen",
]

Kind = Literal["uint8", "int8", "int16"]
View = Literal["whole", "strided", "spread", "broadcast"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VIEWS: tuple[View, ...] = get_args(View)

# With these, a*u + b*v + d and its rounding stay in int32 for any int16 u and v.
COEFFICIENT_LIMIT = (1 << 14) - 1  # |a|, |b|
OFFSET_LIMIT = 1 << 29  # |d|
SHIFT_LIMIT = 30
LARGEST = (1 << 31) - 1  # what a larger magnitude is reported as


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What an operation reports beside the tensor that it writes."""

    largest: int  # magnitude before saturation
    saturations: int  # values that did not fit
    sums: Ints | None = None  # of the values written: (K,) of a convolution, (N, C) of an affine operation
    squares: Ints | None = None  # (K,) of the squares of a convolution's values


def kind_range(kind: Kind) -> tuple[int, int]:
    """The smallest and the largest integer of a kind.

    >>> kind_range("uint8"), kind_range("int16")
    ((0, 255), (-32768, 32767))
    """
    info = np.iinfo(kind)
    return int(info.min), int(info.max)


def fit(raw: Ints, kind: Kind) -> tuple[NDArray[Any], Written]:
    """Saturate to a kind, and report.

    >>> fitted, report = fit(np.array([-300, -1, 40]), "int8")
    >>> fitted.tolist(), report.largest, report.saturations
    ([-128, -1, 40], 300, 1)
    """
    low, high = kind_range(kind)
    fitted = np.clip(raw, low, high)
    largest = min(int(np.abs(raw).max(initial=0)), LARGEST)
    report = Written(largest=largest, saturations=int(np.count_nonzero(fitted != raw)))
    return fitted.astype(kind), report


def seen(x: NDArray[Any], view: View, size: tuple[int, int, int]) -> Ints:
    """A tensor as an element-wise operation of ``size`` (C, H, W) reads it; channels beyond its own are zero.

    ``strided``: every second pixel; ``spread``: its pixels at even rows and columns, zeros between;
    ``broadcast``: its only pixel everywhere.

    Shapes: x (N, c, h, w), result (N, C, H, W).

    >>> seen(np.array([[[[1, 2], [3, 4]]]]), "spread", (1, 3, 4))[0, 0].tolist()
    [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0]]
    """
    C, H, W = size
    out = np.zeros((x.shape[0], max(C, x.shape[1]), H, W), np.int64)
    channels = slice(0, x.shape[1])
    if view == "strided":
        out[:, channels] = x[:, :, ::2, ::2]
    elif view == "spread":
        out[:, channels, ::2, ::2] = x
    else:
        out[:, channels] = x
    return out[:, :C]


def opens(mask: NDArray[Any], limit: int = LARGEST) -> NDArray[np.bool_]:
    """Where a mask lets a gradient through: an activation that is neither zero nor at its ceiling, ``limit``.

    Decided on the stored integers, the same on every device: a value that rounding has brought to zero or to
    the ceiling is closed.

    >>> opens(np.array([0, 1, 191, 192]), 192).tolist()
    [False, True, True, False]
    """
    return (mask > 0) & (mask < limit)


def affine(
    u: Ints,
    v: Ints | None,
    *,
    a: Ints,
    b: Ints,
    d: Ints,
    shift: int,
    kind: Kind,
    relu: bool = False,
    ceiling: int = LARGEST,
    mask: NDArray[Any] | None = None,
    mask_limit: int = LARGEST,
    mask_out: bool = False,
    dither: int | None = None,
) -> tuple[NDArray[Any], Written]:
    """``saturate(round_shift(a*u + b*v + d, shift))``, with coefficients of each channel.

    With ``dither``, the phase of each sample's first value, it is ``dithered_shift`` that rounds.

    Where ``mask`` does not open (``opens``), u counts as zero, or with ``mask_out`` the whole result does.
    After rounding, ``relu`` sets negative values to zero, and values above ``ceiling`` become it; neither
    counts as a saturation.

    Shapes: u, v, mask and result (N, C, H, W); a, b, d (C,).

    >>> u = np.array([[[[3, -3, 100]]]])
    >>> one = np.array([1])
    >>> out, report = affine(u, None, a=one, b=0 * one, d=one, shift=1, kind="int8")
    >>> out[0, 0, 0].tolist(), report.largest
    ([2, -1, 51], 51)
    """
    if mask is not None and not mask_out:
        u = np.where(opens(mask, mask_limit), u, 0)
    total = a[:, None, None] * u + d[:, None, None]
    if v is not None:
        total = total + b[:, None, None] * v
    if dither is None:
        value = round_shift(total, shift)
    else:
        value = dithered_shift(total, shift, dither_phases(total.shape[1:], dither))
    if relu:
        value = np.maximum(value, 0)
    value = np.minimum(value, ceiling)
    if mask is not None and mask_out:
        value = np.where(opens(mask, mask_limit), value, 0)
    fitted, report = fit(value, kind)
    sums = fitted.sum(axis=(2, 3), dtype=np.int64)
    return fitted, Written(largest=report.largest, saturations=report.saturations, sums=sums)


def reduce(
    u: Ints, v: Ints, mask: NDArray[Any] | None = None, mask_limit: int = LARGEST
) -> tuple[Ints, Ints]:
    """Per sample and channel the sums of u and of u*v, where ``mask``, if any, opens.

    Shapes: u, v, mask (N, C, H, W), results (N, C).

    >>> u, v = np.array([[[[1, 2, 3]]]]), np.array([[[[5, 5, -1]]]])
    >>> [part.tolist() for part in reduce(u, v, mask=np.array([[[[1, 0, 9]]]]))]
    [[[4]], [[2]]]
    """
    if mask is not None:
        u = np.where(opens(mask, mask_limit), u, 0)
    wide = u.astype(np.int64)
    return wide.sum(axis=(2, 3)), (wide * v).sum(axis=(2, 3))
