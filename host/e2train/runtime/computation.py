# SPDX-License-Identifier: Apache-2.0
"""Computation as the paper counts it: multiply-accumulates times the widths of both operands."""

from __future__ import annotations

from collections.abc import Iterable

from e2train.numerics.psg import Psg
from e2train.runtime.ledger import LedgerRow

__all__ = ["computation", "operand_bits"]

_FLOAT32 = (32, 32)


def operand_bits(mode: str, psg: Psg | None = None) -> tuple[int, int]:
    """Widths of a device's operands in a mode.

    >>> operand_bits("grad_weight"), operand_bits("grad_msb", Psg())
    ((8, 16), (4, 10))
    """
    if mode == "grad_msb":
        psg = psg or Psg()
        return psg.x_bits, psg.g_bits
    return {"forward": (8, 8), "grad_input": (16, 8), "grad_weight": (8, 16)}[mode]


def computation(rows: Iterable[LedgerRow], psg: Psg | None = None) -> float:
    """Executed computation, in float32 multiply-accumulates: MACs x bits x bits / 1024.

    >>> from e2train.devices.protocol import Counters
    >>> rows = [LedgerRow(name="conv", mode="forward", counters=Counters(macs=1600))]
    >>> computation(rows)
    100.0
    """
    whole = _FLOAT32[0] * _FLOAT32[1]
    total = 0.0
    for row in rows:
        a, b = operand_bits(row.mode, psg)
        total += row.counters.macs * a * b / whole + row.counters.host_macs
    return total
