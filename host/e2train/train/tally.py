# SPDX-License-Identifier: Apache-2.0
"""What a run has cost so far, over all its parts: it survives a stop and does not steer the training."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from e2train.energy import Gauge
from e2train.nn import Group
from e2train.runtime import Ledger, LedgerRow, merged
from e2train.train.account import rows_from

__all__ = ["Tally"]


@dataclass(slots=True, kw_only=True)
class Tally:
    """Ledger rows, wall time and energy of this rank, of earlier parts of the run and of this one."""

    ledger: Ledger
    group: Group = field(default_factory=Group)
    gauge: Gauge | None = None
    earlier: tuple[LedgerRow, ...] = ()
    earlier_s: float = 0.0
    earlier_energy: list[dict[str, Any]] = field(default_factory=list)  # one for each part
    started_s: float = field(default_factory=time.monotonic)

    @property
    def wall_s(self) -> float:
        """Time that the run took, without what lay between its parts."""
        return self.earlier_s + time.monotonic() - self.started_s

    @property
    def measured_s(self) -> float:
        """For how long a meter has watched earlier parts."""
        return float(sum(part["duration_s"] for part in self.earlier_energy))

    @property
    def energy(self) -> list[dict[str, Any]]:
        """What the meter says of every part, this one last."""
        return [*self.earlier_energy, *([self.gauge.measured().to_dict()] if self.gauge else [])]

    def gather(self) -> list[dict[str, Any]]:
        """What goes into a checkpoint: what every rank has spent, in the order of the ranks."""
        rows = merged((*self.earlier, *self.ledger.snapshot()))
        spent = {"wall_s": self.wall_s, "rows": [asdict(row) for row in rows], "energy": self.energy}
        return [json.loads(text) for text in self.group.texts(json.dumps(spent))]

    def take_rows(self) -> tuple[LedgerRow, ...]:
        """The rows of all ranks added up; the next phase begins with none."""
        rows = rows_from(row for rank in self.gather() for row in rank["rows"])
        self.earlier = ()
        self.ledger.clear()
        return rows

    def restore(self, spent: list[dict[str, Any]]) -> None:
        """Go on from a checkpoint."""
        mine = spent[self.group.rank]
        self.earlier_s = mine["wall_s"]
        self.earlier = rows_from(mine["rows"])
        self.earlier_energy = mine["energy"]
