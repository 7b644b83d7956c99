# SPDX-License-Identifier: Apache-2.0
"""Power-of-two scales, and coefficients rounded to the mantissas that a device multiplies by."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.elementwise import COEFFICIENT_LIMIT, OFFSET_LIMIT, SHIFT_LIMIT, Kind
from e2train.numerics.rounding import DITHER_PHASES, Ints

__all__ = ["DivergenceError", "Floats", "Mantissas", "kind_exponent", "mantissas", "power_of_two"]

Floats = NDArray[np.float64]

_MIN_EXPONENT = -90  # keeps every product of three scales above float32's subnormals


class DivergenceError(ArithmeticError):
    """Numbers that are no longer finite, so that no integer can stand for them."""


def power_of_two(magnitude: float) -> int:
    """The smallest exponent e with magnitude <= 2**e.

    Raises: DivergenceError when the magnitude is infinite or not a number.

    >>> [power_of_two(m) for m in (0.25, 0.3, 1.0, 1.5)]
    [-2, -1, 0, 1]
    """
    if not math.isfinite(magnitude):
        raise DivergenceError(f"values have grown to {magnitude}: training diverged; use a smaller --lr")
    mantissa, exponent = math.frexp(magnitude)
    return max(exponent - (mantissa == 0.5), _MIN_EXPONENT)


def kind_exponent(magnitude: float, kind: Kind) -> int:
    """The exponent with which integers of a kind reach a magnitude: real = integer * 2**exponent.

    What is all zero has the smallest there is, so that it takes no room from what is added to it.

    >>> kind_exponent(1.0, "uint8"), kind_exponent(1.0, "int8"), kind_exponent(3.0, "int16")
    (-8, -7, -13)
    >>> kind_exponent(0.0, "int16")
    -105
    """
    bits = 8 * np.dtype(kind).itemsize
    exponent = power_of_two(magnitude) if magnitude else _MIN_EXPONENT
    return exponent - (bits if kind == "uint8" else bits - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mantissas:
    """Coefficients of ``numerics.affine``, of each channel, with their common shift."""

    a: Ints
    b: Ints
    d: Ints
    shift: int

    @property
    def phase(self) -> int:
        """Where dithering begins: it changes with the coefficients, and is the same on every device."""
        numbers = np.concatenate([self.a, self.b, self.d])
        return zlib.crc32(numbers.astype("<i8").tobytes()) % DITHER_PHASES


def mantissas(a: Floats, b: Floats, d: Floats) -> Mantissas:
    """Round coefficients, in LSBs of the result, to integers over ``2**shift``, halves to even.

    The shift is the largest in 0..30 with which all of them fit: |a|, |b| < 2**14, |d| <= 2**29.

    Raises: DivergenceError when one is not finite, or does not fit even with shift 0.

    >>> one = np.array([1.0])
    >>> found = mantissas(0.75 * one, 0 * one, -3 * one)
    >>> found.a.tolist(), found.d.tolist(), found.shift
    ([12288], [-49152], 14)
    """
    largest = float(np.abs(np.concatenate([a, b])).max(initial=0.0))
    offset = float(np.abs(d).max(initial=0.0))
    if not (math.isfinite(largest) and math.isfinite(offset)):
        raise DivergenceError(
            "batch norm's coefficients are not finite: training diverged; use a smaller --lr"
        )

    def fits(shift: int) -> bool:  # a half beyond: up from the odd limit of a and b, down to that of d
        scale = 2.0**shift
        return largest * scale < COEFFICIENT_LIMIT + 0.5 and offset * scale <= OFFSET_LIMIT + 0.5

    shift = next(filter(fits, range(SHIFT_LIMIT, -1, -1)), None)
    if shift is None:
        raise DivergenceError(
            f"coefficients up to {largest:g} and offsets up to {offset:g} are beyond the results' range: "
            "values have grown too much in one step, or a channel hardly varies and 8 bits are too few for "
            "its gradient; use a smaller --lr"
        )
    parts: tuple[Any, ...] = tuple(np.rint(np.ldexp(part, shift)).astype(np.int64) for part in (a, b, d))
    return Mantissas(a=parts[0], b=parts[1], d=parts[2], shift=shift)
