# SPDX-License-Identifier: Apache-2.0
"""Account of what was executed, per layer and mode."""

from __future__ import annotations

from dataclasses import dataclass, field

from e2train.devices.protocol import Counters, LayerCall, LayerResult, Mode

__all__ = ["Ledger", "LedgerRow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What one layer did in one mode."""

    name: str
    mode: Mode
    calls: int = 0
    saturations: int = 0
    counters: Counters = field(default_factory=Counters)


class Ledger:
    """Adds up results by layer name and mode."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, Mode], LedgerRow] = {}

    def add(self, call: LayerCall, result: LayerResult) -> None:
        """Enter one executed call."""
        key = (call.name, call.mode)
        row = self._rows.get(key) or LedgerRow(name=call.name, mode=call.mode)
        self._rows[key] = LedgerRow(
            name=row.name,
            mode=row.mode,
            calls=row.calls + 1,
            saturations=row.saturations + result.saturations,
            counters=row.counters + result.counters,
        )

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

    def clear(self) -> None:
        """Start a new account."""
        self._rows.clear()
