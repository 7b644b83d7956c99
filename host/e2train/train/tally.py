# SPDX-License-Identifier: Apache-2.0
"""What a run has cost so far, over all its parts: it survives a stop and does not steer the training."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from e2train.energy import Gauge, Measured
from e2train.nn import Group
from e2train.runtime import Ledger, LedgerRow, merged
from e2train.train.account import rows_from
from e2train.train.checks import check_numbers

__all__ = ["Tally"]


@dataclass(slots=True, kw_only=True)
class Tally:
    """Ledger rows, wall time and energy of this rank, of earlier parts of the run and of this one."""

    ledger: Ledger
    group: Group = field(default_factory=Group)
    gauge: Gauge | None = None
    earlier: tuple[LedgerRow, ...] = ()
    earlier_s: float = 0.0
    earlier_energy: tuple[Measured, ...] = ()  # one for each part
    started_s: float = field(default_factory=time.monotonic)

    @property
    def wall_s(self) -> float:
        """Time that the run took, without what lay between its parts."""
        return self.earlier_s + time.monotonic() - self.started_s

    @property
    def measured_s(self) -> float:
        """For how long a meter has watched earlier parts."""
        return sum(part.duration_s for part in self.earlier_energy)

    def gather(self) -> list[dict[str, Any]]:
        """What goes into a checkpoint: what every rank has spent, in the order of the ranks."""
        rows = [asdict(row) for row in self._rows()]
        energy = [part.to_dict() for part in self._energy()]
        return self._from_all({"wall_s": self.wall_s, "rows": rows, "energy": energy})

    def take_rows(self) -> tuple[LedgerRow, ...]:
        """The rows of all ranks added up; the next phase begins with none."""
        of_ranks = self._from_all([asdict(row) for row in self._rows()])
        self.earlier = ()
        self.ledger.clear()
        return rows_from(row for rows in of_ranks for row in rows)

    def energy_of_ranks(self) -> list[list[Measured]]:
        """What each rank's meter says of each part of the run."""
        of_ranks = self._from_all([part.to_dict() for part in self._energy()])
        return [[Measured.from_dict(part) for part in parts] for parts in of_ranks]

    def restore(self, spent: list[dict[str, Any]]) -> None:
        """Go on from a checkpoint.

        Raises: KeyError, TypeError or ValueError when it does not say what every rank has spent.
        """
        if len(spent) != self.group.size:
            raise ValueError(f"spent is of {len(spent)} ranks, not {self.group.size}")
        mine = spent[self.group.rank]
        self.earlier_s = mine["wall_s"]
        self.earlier = rows_from(mine["rows"])
        self.earlier_energy = tuple(map(Measured.from_dict, mine["energy"]))
        for part in self.earlier_energy:
            check_numbers(part)
        check_numbers(self)

    def _rows(self) -> tuple[LedgerRow, ...]:
        return merged((*self.earlier, *self.ledger.snapshot()))

    def _energy(self) -> tuple[Measured, ...]:
        return (*self.earlier_energy, *([self.gauge.measured()] if self.gauge else []))

    def _from_all(self, told: Any) -> list[Any]:
        return [json.loads(text) for text in self.group.texts(json.dumps(told))]
