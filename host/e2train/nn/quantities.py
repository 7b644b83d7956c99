# SPDX-License-Identifier: Apache-2.0
"""Integers and scales of a network that has been trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from e2train.numerics.scales import mantissas
from e2train.runtime.resident import NormParameters

__all__ = ["ConvScales", "Quantity", "rounded_norm"]


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


def rounded_norm(
    norm: NormParameters, y: float, out: float, added: float, strength: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset of batch norm in evaluation times ``strength``, as an affine operation rounds them.

    From and to integers of the scales ``y`` and ``out``; what is added has integers of the scale ``added``.
    """
    scale, offset = norm.running.affine(norm)
    one = np.ones(len(scale))
    found = mantissas(strength * scale * (y / out), one * (added / out), strength * offset / out)
    step = 2.0**-found.shift * out
    used = found.a | found.d | (found.b if added else 0)  # all sums are multiples of its lowest bit
    lowest = np.minimum(np.where(used, used & -used, 1), 2.0 ** max(found.shift - 1, 0))
    halves_up = 0.25 * lowest  # where a float32 holds it
    return tuple((found.a * (step / y)).tolist()), tuple(((found.d + halves_up) * step).tolist())
