# SPDX-License-Identifier: Apache-2.0
"""The signs of a layer's weight gradient, predicted from high bits as far as these tell them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from e2train.devices.protocol import LayerCall
from e2train.numerics.psg import Psg, decided, sign

__all__ = ["Signs", "grad_signs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Values in {-1, 0, +1} of shape (K, C, R, S), and which of them the high bits decided."""

    value: Any
    predicted: Any


def grad_signs(call: LayerCall, psg: Psg, run: Callable[[LayerCall], Any]) -> Signs:
    """Signs of a grad_weight call; ``run`` computes the calls that this takes.

    The full-precision gradient is computed in mode ``resolve`` alone, and only where a sign is left open.
    """
    gw_msb = run(replace(call, mode="grad_msb", x_bits=psg.x_bits, g_bits=psg.g_bits))
    predicted = decided(gw_msb, psg.beta_q16)
    value = sign(gw_msb) * predicted
    if psg.mode == "resolve" and not bool(predicted.all()):
        value = value + sign(run(call)) * ~predicted
    return Signs(value=value, predicted=predicted)
