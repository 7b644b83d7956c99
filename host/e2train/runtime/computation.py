# SPDX-License-Identifier: Apache-2.0
"""Computation as the paper counts it: multiply-accumulates times the widths of both operands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from e2train.numerics.psg import Psg
from e2train.runtime.ledger import LedgerRow

__all__ = ["FULL_WIDTHS", "Widths", "computation", "operand_bits"]

_FLOAT32 = (32, 32)
_ELEMENTS = (16, 16)  # coefficients and elements of affine and reduce


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """What a run chooses of its operands' widths; activations and weights have 8 bits.

    The engine moves and multiplies output gradients of 16 bits, of which ``gradient_bits`` are in use.

    Raises: ValueError when there are no such gradients.
    """

    gradient_bits: int = 16
    psg: Psg = field(default_factory=Psg)

    def __post_init__(self) -> None:
        if not 4 <= self.gradient_bits <= 16:
            raise ValueError(f"gradient_bits must be in 4..16, not {self.gradient_bits}")


FULL_WIDTHS = Widths()


def operand_bits(mode: str, widths: Widths = FULL_WIDTHS) -> tuple[int, int]:
    """Widths of a device's operands in a mode.

    >>> operand_bits("grad_weight"), operand_bits("grad_msb")
    ((8, 16), (4, 10))
    """
    if mode == "grad_msb":
        return widths.psg.x_bits, widths.psg.g_bits
    gradient = widths.gradient_bits
    return {"forward": (8, 8), "grad_input": (gradient, 8), "grad_weight": (8, gradient)}.get(mode, _ELEMENTS)


def computation(rows: Iterable[LedgerRow], widths: Widths = FULL_WIDTHS) -> float:
    """Executed computation, in float32 multiply-accumulates: MACs x bits x bits / 1024.

    >>> from e2train.devices.protocol import Counters
    >>> rows = [LedgerRow(name="conv", mode="forward", counters=Counters(macs=1600))]
    >>> computation(rows)
    100.0
    """
    whole = _FLOAT32[0] * _FLOAT32[1]
    total = 0.0
    for row in rows:
        a, b = operand_bits(row.mode, widths)
        total += row.counters.macs * a * b / whole + row.counters.host_macs
    return total
