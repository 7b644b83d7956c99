# SPDX-License-Identifier: Apache-2.0
"""Predictive sign gradients: the signs of a weight gradient, as far as its high bits decide them.

The functions use operators alone, so that NumPy arrays and torch tensors give the same integers.
Source: E2-Train (arXiv:1910.13349).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from e2train.numerics.frames.layout import G_BITS, X_BITS

__all__ = [
    "PSG_MODES",
    "SIGN_SCALES",
    "Prediction",
    "Psg",
    "PsgMode",
    "SignScale",
    "decided",
    "mean_magnitude",
    "predict_signs",
    "sign",
]

PsgMode = Literal["resolve", "sparsify", "predict"]
PSG_MODES: tuple[PsgMode, ...] = get_args(PsgMode)
SignScale = Literal["none", "mean", "each"]
SIGN_SCALES: tuple[SignScale, ...] = get_args(SignScale)

_Q = 16  # fraction bits of beta


@dataclass(frozen=True, slots=True, kw_only=True)
class Psg:
    """How signs are predicted.

    ``resolve``: undecided signs come from the full-precision gradient, as in the paper; ``sparsify``: they
    are 0; ``predict``: every sign is taken as it is predicted, beta does not count.
    """

    mode: PsgMode = "predict"
    x_bits: int = X_BITS  # high bits kept of the 8 of x
    g_bits: int = G_BITS  # and of the 16 of gy
    beta: float = 0.05  # threshold as a share of the layer's largest magnitude

    def __post_init__(self) -> None:
        if self.mode not in PSG_MODES:
            raise ValueError(f"psg_mode must be one of {', '.join(PSG_MODES)}, not {self.mode!r}")
        for key, most in (("x_bits", X_BITS), ("g_bits", G_BITS)):
            if not 1 <= getattr(self, key) <= most:
                raise ValueError(f"psg_{key} must be in 1..{most}, not {getattr(self, key)}")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"psg_beta must be in 0..1, not {self.beta}")

    @property
    def beta_q16(self) -> int:
        """The threshold as every device compares it, in 1/65536.

        >>> Psg(mode="resolve").beta_q16, Psg(mode="predict").beta_q16
        (3277, 0)
        """
        return 0 if self.mode == "predict" else round(self.beta * (1 << _Q))


def decided(gw_msb: Any, beta_q16: int) -> Any:
    """Which elements of a layer's predicted gradient are large enough to trust their signs; never a zero.

    >>> import numpy as np
    >>> decided(np.array([100, 5, 4, 0, -5]), beta_q16=round(0.05 * 65536)).tolist()
    [True, False, False, False, False]
    >>> decided(np.array([100, 5, 4, 0, -5]), beta_q16=0).tolist()
    [True, True, True, False, True]
    """
    magnitude = abs(gw_msb)
    return (magnitude << _Q >= beta_q16 * int(magnitude.max())) & (magnitude > 0)


def sign(raw: Any) -> Any:
    """-1, 0 or +1 of each element.

    >>> import numpy as np
    >>> sign(np.array([-7, 0, 9])).tolist()
    [-1, 0, 1]
    """
    return (raw > 0) * 1 - (raw < 0) * 1


class Prediction(NamedTuple):
    """Signs of a weight gradient, which of them its high bits decided, and the integers they are signs of."""

    signs: Any
    predicted: Any
    gw_msb: Any
    full: Any  # None where no sign was left open


def predict_signs(psg: Psg, compute: Callable[[int, int], Any]) -> Prediction:
    """Predict the signs of a weight gradient from its high bits.

    ``compute`` gives its integers from so many high bits of x and gy (0: all). The full-precision gradient is
    computed in mode ``resolve`` alone, and only where a sign is left open.

    Shapes: all have that of the gradient, (K, C, R, S).

    >>> import numpy as np
    >>> integers = {(4, 10): np.array([100, -3, 0]), (0, 0): np.array([6400, -200, 17])}
    >>> found = predict_signs(Psg(mode="resolve"), lambda *bits: integers[bits])
    >>> found.signs.tolist(), found.predicted.tolist()
    ([1, -1, 1], [True, False, False])
    """
    gw_msb = compute(psg.x_bits, psg.g_bits)
    predicted = decided(gw_msb, psg.beta_q16)
    signs = sign(gw_msb) * predicted
    if psg.mode != "resolve" or bool(predicted.all()):
        return Prediction(signs, predicted, gw_msb, None)
    full = compute(0, 0)
    return Prediction(signs + sign(full) * ~predicted, predicted, gw_msb, full)


def mean_magnitude(raw: Any) -> float:
    """Mean of the magnitudes of integers.

    >>> import numpy as np
    >>> mean_magnitude(np.array([-3, 0, 4, 1]))
    2.0
    """
    total, count = int(abs(raw).sum()), int(math.prod(raw.shape))
    return total / max(1, count)
