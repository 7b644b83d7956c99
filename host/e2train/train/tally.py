# SPDX-License-Identifier: Apache-2.0
"""What a run has cost so far, over all its parts: it survives a stop and does not steer the training."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from e2train.devices.protocol import Counters
from e2train.nn import Group
from e2train.runtime import Ledger, LedgerRow, merged

__all__ = ["Tally", "rows_of"]


@dataclass(slots=True, kw_only=True)
class Tally:
    """Ledger rows and wall time of this rank, of earlier parts of the run and of this one."""

    ledger: Ledger
    group: Group = field(default_factory=Group)
    earlier: tuple[LedgerRow, ...] = ()
    earlier_s: float = 0.0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def wall_s(self) -> float:
        """Time that the run took, without what lay between its parts."""
        return self.earlier_s + time.monotonic() - self.started_s

    def gather(self) -> list[dict[str, Any]]:
        """What goes into a checkpoint: what every rank has spent, in the order of the ranks."""
        rows = merged((*self.earlier, *self.ledger.snapshot()))
        spent = {"wall_s": self.wall_s, "rows": [asdict(row) for row in rows]}
        return [json.loads(text) for text in self.group.texts(json.dumps(spent))]

    def restore(self, spent: list[dict[str, Any]]) -> None:
        """Go on from a checkpoint."""
        mine = spent[self.group.rank]
        self.earlier_s = mine["wall_s"]
        self.earlier = rows_of([mine])


def rows_of(spent: Iterable[dict[str, Any]]) -> tuple[LedgerRow, ...]:
    """All ranks' rows, added up by layer and mode."""
    return merged(
        LedgerRow(**{**row, "counters": Counters(**row["counters"])})
        for rank in spent
        for row in rank["rows"]
    )
