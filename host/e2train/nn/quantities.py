# SPDX-License-Identifier: Apache-2.0
"""Integers and scales of a network that has been trained."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConvScales", "Quantity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """Integers of a tensor: how many bits, with or without a sign, times a power of two."""

    bits: int
    signed: bool
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvScales:
    """What a convolution computes with; ``y``, ``a`` and ``norm`` where results are integers too.

    ``a`` is what comes behind batch norm, activation and shortcut, where no other convolution of the branch
    follows. ``norm`` are scale and offset of batch norm by channel, as they are rounded.
    """

    x: Quantity
    w: Quantity
    y: Quantity | None = None
    a: Quantity | None = None
    norm: tuple[tuple[float, ...], tuple[float, ...]] | None = None
