# SPDX-License-Identifier: Apache-2.0
"""Rounding and overflow, named once for three languages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DITHER_BITS",
    "DITHER_PHASES",
    "DITHER_STEPS",
    "Ints",
    "dither_phases",
    "dithered_shift",
    "keep_high",
    "round_shift",
    "saturate",
    "wrap",
]

Ints = NDArray[np.int64]  # raw fixed-point integers

DITHER_BITS = 9  # of the fraction that dithering adds
DITHER_PHASES = 256
DITHER_STEPS = 117, 69, 37
"""Of the phase, from one channel, row and column to the next: odd, so that each of them meets every phase."""


def round_shift(raw: Ints, shift: int) -> Ints:
    """Divide by ``2**shift``, rounding halves up.

    Units: ``|raw| + 2**(shift-1)`` must fit int64.

    >>> round_shift(np.array([-6, -2, 2, 6, 7]), 2).tolist()
    [-1, 0, 1, 2, 2]
    """
    if not 0 <= shift <= 62:
        raise ValueError(f"shift must be in 0..62, not {shift}")
    return raw if shift == 0 else (raw + (1 << shift - 1)) >> shift


def dither_phases(size: tuple[int, ...], first: int) -> Ints:
    """The phases of a sample's values (C, H, W), from that of the first one: the same in every sample.

    >>> dither_phases((2, 1, 3), 200).tolist()
    [[[200, 237, 18]], [[61, 98, 135]]]
    """
    channels, rows, columns = (
        np.arange(count) * step for count, step in zip(size, DITHER_STEPS, strict=True)
    )
    phases: Ints = (first + channels[:, None, None] + rows[:, None] + columns) % DITHER_PHASES
    return phases


def dithered_shift(raw: Ints, shift: int, phases: Ints) -> Ints:
    """Divide by ``2**shift``, rounding down once ``(2*phase + 1) / 512`` has been added.

    Over all phases errors cancel out, where ``round_shift`` would bring small numbers to zero.

    Units: ``|raw| * 512`` must fit int64.

    >>> raw = np.array([1, 1, 1, 1, -1, -1, -1, -1])
    >>> dithered_shift(raw, 2, np.array([0, 64, 128, 192] * 2)).tolist()
    [0, 0, 0, 1, -1, 0, 0, 0]
    """
    if not 0 <= shift <= 62:
        raise ValueError(f"shift must be in 0..62, not {shift}")
    return ((raw << DITHER_BITS >> shift) + 2 * phases + 1) >> DITHER_BITS


def keep_high(raw: Ints, *, bits: int, kept: int, signed: bool) -> Ints:
    """The highest ``kept`` of ``bits`` bits: rounded, and clamped where rounding up leaves their range.

    >>> keep_high(np.array([0, 7, 8, 247, 248, 255]), bits=8, kept=4, signed=False).tolist()
    [0, 0, 1, 15, 15, 15]
    >>> keep_high(np.array([-128, -120, 127]), bits=8, kept=4, signed=True).tolist()
    [-8, -7, 7]
    """
    most = (1 << kept - signed) - 1
    return np.minimum(round_shift(raw, bits - kept), most)


def saturate(raw: Ints, bits: int) -> tuple[Ints, int]:
    """Clamp to a signed width, and count the values that did not fit.

    >>> saturated, count = saturate(np.array([-129, -128, 127, 128]), bits=8)
    >>> saturated.tolist(), count
    ([-128, -128, 127, 127], 2)
    """
    high = (1 << bits - 1) - 1
    fitted = np.clip(raw, -high - 1, high)
    return fitted, int(np.count_nonzero(fitted != raw))


def wrap(raw: Ints, bits: int) -> Ints:
    """Keep the low bits of a two's complement number, as a register of that width does.

    >>> wrap(np.array([127, 128, -129]), bits=8).tolist()
    [127, -128, 127]
    """
    half = 1 << bits - 1
    return ((raw + half) & ((1 << bits) - 1)) - half
