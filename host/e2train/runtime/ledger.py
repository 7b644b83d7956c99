# SPDX-License-Identifier: Apache-2.0
"""Account of what was executed, per layer and mode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from math import prod
from typing import Literal, get_args

from e2train.devices.protocol import Counters, LayerCall, LayerResult, Mode

__all__ = ["ELEMENT_MODES", "Ledger", "LedgerMode", "LedgerRow", "merged"]

ElementMode = Literal["affine", "reduce", "load"]  # load: the host puts a tensor into the device's memory
LedgerMode = Mode | ElementMode
ELEMENT_MODES: tuple[ElementMode, ...] = get_args(ElementMode)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What one layer did in one mode; rows of the same layer and mode add up."""

    name: str
    mode: LedgerMode
    calls: int = 0
    saturations: int = 0
    elements: int = 0  # of grad_msb: gradient elements, and those whose signs it decided
    predicted: int = 0
    a_values: int = 0  # of the tensors of its calls: both operands and the result
    b_values: int = 0
    results: int = 0
    counters: Counters = field(default_factory=Counters)

    def __add__(self, other: LedgerRow) -> LedgerRow:
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMMED}
        return replace(self, **sums)


_SUMMED = tuple(field.name for field in fields(LedgerRow) if field.name not in ("name", "mode"))


def merged(rows: Iterable[LedgerRow]) -> tuple[LedgerRow, ...]:
    """One row per layer and mode, in order of first appearance."""
    ledger = Ledger()
    for row in rows:
        ledger.enter(row)
    return ledger.snapshot()


class Ledger:
    """Adds up results by layer name and mode."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, LedgerMode], LedgerRow] = {}

    def enter(self, row: LedgerRow) -> None:
        """Add a row to the one of its layer and mode."""
        key = (row.name, row.mode)
        self._rows[key] = self._rows[key] + row if key in self._rows else row

    def add(self, call: LayerCall, result: LayerResult) -> None:
        """Enter one executed call."""
        self.enter(
            LedgerRow(
                name=call.name,
                mode=call.mode,
                calls=1,
                saturations=result.saturations,
                a_values=prod(call.a.shape),
                b_values=prod(call.b.shape),
                results=prod(result.value.shape),
                counters=result.counters,
            )
        )

    def add_signs(self, name: str, *, elements: int, predicted: int) -> None:
        """Enter how many signs of a layer's gradient were predicted."""
        self.enter(LedgerRow(name=name, mode="grad_msb", elements=elements, predicted=predicted))

    def snapshot(self) -> tuple[LedgerRow, ...]:
        """All rows as they are now, in order of first use."""
        return tuple(self._rows.values())

    def total(self) -> Counters:
        """The sum over all rows."""
        return sum((row.counters for row in self._rows.values()), Counters())

    @property
    def saturations(self) -> int:
        """Saturated elements over all rows."""
        return sum(row.saturations for row in self._rows.values())

    def restore(self, rows: Iterable[LedgerRow]) -> None:
        """Go back to a snapshot."""
        self._rows = {(row.name, row.mode): row for row in rows}

    def clear(self) -> None:
        """Start a new account."""
        self._rows.clear()
