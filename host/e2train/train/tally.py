# SPDX-License-Identifier: Apache-2.0
"""What a run has cost so far, over all its parts: it survives a stop and does not steer the training."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from e2train.devices.protocol import Counters
from e2train.runtime import Ledger, LedgerRow, merged

__all__ = ["Tally"]


@dataclass(slots=True, kw_only=True)
class Tally:
    """Ledger rows and wall time, of earlier parts of the run and of this one."""

    ledger: Ledger
    earlier: tuple[LedgerRow, ...] = ()
    earlier_s: float = 0.0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def wall_s(self) -> float:
        """Time that the run took, without what lay between its parts."""
        return self.earlier_s + time.monotonic() - self.started_s

    def rows(self) -> tuple[LedgerRow, ...]:
        """Earlier and present rows, added up by layer and mode."""
        return merged((*self.earlier, *self.ledger.snapshot()))

    def total(self) -> Counters:
        """The sum over all rows."""
        return sum((row.counters for row in self.rows()), Counters())

    def dump(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {"wall_s": self.wall_s, "rows": [asdict(row) for row in self.rows()]}

    def restore(self, dump: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.earlier_s = dump["wall_s"]
        self.earlier = tuple(
            LedgerRow(**{**row, "counters": Counters(**row["counters"])}) for row in dump["rows"]
        )
