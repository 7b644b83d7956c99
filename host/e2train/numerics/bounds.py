# SPDX-License-Identifier: Apache-2.0
"""How long a sum may be before an accumulator could overflow."""

from __future__ import annotations

__all__ = [
    "GRAD_INPUT_TERMS",
    "GRAD_WEIGHT_TERMS",
    "OUTPUT_TERMS",
    "PAIRED_GRAD_WEIGHT_TERMS",
    "ExactnessError",
    "check_exact",
]

OUTPUT_TERMS = 66_000  # 255 * 127 * C*R*S fits int32
GRAD_INPUT_TERMS = 132_104  # 32768 * 127 * K*R*S fits int40
GRAD_WEIGHT_TERMS = 16_800_000  # 255 * 32768 * N*P*Q fits int48
PAIRED_GRAD_WEIGHT_TERMS = 65_793  # 255 * 128 * N*P*Q fits int32, two products per multiplier

_LIMITS = {
    "forward": ("C*R*S", OUTPUT_TERMS, "int32", "split the layer over its input channels"),
    "grad_input": ("K*R*S", GRAD_INPUT_TERMS, "int40", "split the layer over its output channels"),
    "grad_weight": ("N*P*Q", GRAD_WEIGHT_TERMS, "int48", "split the batch"),
    "grad_msb": ("N*P*Q", GRAD_WEIGHT_TERMS, "int48", "split the batch"),
}


class ExactnessError(ValueError):
    """A computation whose result could leave the range in which every device is exact."""


def check_exact(mode: str, terms: int, *, name: str = "") -> None:
    """Refuse a reduction that is too long to be exact.

    >>> check_exact("forward", 66_001, name="conv1")
    Traceback (most recent call last):
    ...
    e2train.numerics.bounds.ExactnessError: conv1: forward sums C*R*S = 66001 products, int32 is exact up to \
66000; split the layer over its input channels
    """
    formula, limit, width, remedy = _LIMITS[mode]
    if terms > limit:
        where = f"{name}: " if name else ""
        raise ExactnessError(
            f"{where}{mode} sums {formula} = {terms} products, {width} is exact up to {limit}; {remedy}"
        )
