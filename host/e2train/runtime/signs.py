# SPDX-License-Identifier: Apache-2.0
"""The signs of a layer's weight gradient, predicted from high bits as far as these tell them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2train.numerics.psg import Psg, decided, sign

__all__ = ["Signs", "grad_signs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Values in {-1, 0, +1} of shape (K, C, R, S), and which of them the high bits decided."""

    value: Any
    predicted: Any


def grad_signs(psg: Psg, compute: Callable[[int, int], Any]) -> Signs:
    """Signs of a weight gradient; ``compute`` gives its integers from so many high bits of x and gy (0: all).

    The full-precision gradient is computed in mode ``resolve`` alone, and only where a sign is left open.
    """
    gw_msb = compute(psg.x_bits, psg.g_bits)
    predicted = decided(gw_msb, psg.beta_q16)
    value = sign(gw_msb) * predicted
    if psg.mode == "resolve" and not bool(predicted.all()):
        value = value + sign(compute(0, 0)) * ~predicted
    return Signs(value=value, predicted=predicted)
