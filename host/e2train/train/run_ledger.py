# SPDX-License-Identifier: Apache-2.0
"""The ledger of a run: what each rank has spent so far, and the content of a finished run's ledger.json."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from e2train.devices.protocol import MODES, Counters
from e2train.energy import Gauge, Measured
from e2train.nn import Group
from e2train.runtime import ELEMENT_MODES, Ledger, LedgerRow, merged
from e2train.train.checks import check_numbers
from e2train.train.errors import TrainError

__all__ = ["RankLedger", "RunLedger", "read_run_ledger", "rows_from"]


_MODES = (*MODES, *ELEMENT_MODES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLedger:
    """Ledger rows of the training, of the statistics for averaged weights, and of the final test."""

    scheduled_steps: int
    scheduled_samples: int
    steps_run: int
    samples: int  # of the steps that ran
    ranks: int
    training: tuple[LedgerRow, ...]
    averaging: tuple[LedgerRow, ...]
    test: tuple[LedgerRow, ...]
    devices: tuple[str, ...] = ()  # kind and board of each of parts and ranks; earlier runs lack some

    @property
    def rows(self) -> tuple[LedgerRow, ...]:
        """All phases, added up."""
        return merged((*self.training, *self.averaging, *self.test))

    def to_json(self) -> str:
        """The text of ledger.json."""
        return json.dumps(asdict(self), indent=1)


def read_run_ledger(path: Path) -> RunLedger:
    """Read a ledger.json.

    Raises: TrainError when it is not there or damaged.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        for phase in ("training", "averaging", "test"):
            raw[phase] = rows_from(raw[phase])
        raw["devices"] = tuple(map(str, raw.get("devices", ())))
        run_ledger = RunLedger(**raw)
        check_numbers(run_ledger, counts=True)
    except OSError as error:
        raise TrainError(f"cannot read {path}: {error.strerror}; let the run finish first") from error
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise TrainError(f"{path} is damaged: {' '.join(str(error).split())[:100]}") from error
    return run_ledger


def rows_from(raw: Iterable[dict[str, Any]]) -> tuple[LedgerRow, ...]:
    """Rows from their dictionaries, those of the same layer and mode added up.

    Raises: KeyError, TypeError or ValueError when they are no rows.
    """
    rows = [LedgerRow(**{**row, "counters": Counters(**row["counters"])}) for row in raw]
    for row in rows:
        if not isinstance(row.name, str) or row.mode not in _MODES:
            raise ValueError(f"{row.name!r}, {row.mode!r} are no layer and mode"[:100])
        check_numbers(row, counts=True)
        check_numbers(row.counters, counts=True)
    return merged(rows)


@dataclass(slots=True, kw_only=True)
class RankLedger:
    """Ledger rows, wall time and energy of this rank, of earlier parts of the run and of this one."""

    ledger: Ledger
    group: Group = field(default_factory=Group)
    device: str = "host"  # its kind and board
    earlier_devices: tuple[str, ...] = ()
    gauge: Gauge | None = None
    earlier: tuple[LedgerRow, ...] = ()
    earlier_s: float = 0.0
    earlier_energy: tuple[Measured, ...] = ()  # one for each part
    host_gauge: Gauge | None = None  # of the PC beside a board
    earlier_host: tuple[Measured, ...] = ()
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
        rows = [asdict(row) for row in self.rows()]
        energy = [part.to_dict() for part in self._energy()]
        host = [part.to_dict() for part in self.host_energy()]
        spent = {"wall_s": self.wall_s, "rows": rows, "energy": energy, "host": host}
        return self._from_all({**spent, "devices": self._devices()})

    def take_rows(self) -> tuple[LedgerRow, ...]:
        """The rows of all ranks added up; the next phase begins with none."""
        of_ranks = self._from_all([asdict(row) for row in self.rows()])
        self.earlier = ()
        self.ledger.clear()
        return rows_from(row for rows in of_ranks for row in rows)

    def energy_of_ranks(self) -> list[list[Measured]]:
        """What each rank's meter says of each part of the run."""
        of_ranks = self._from_all([part.to_dict() for part in self._energy()])
        return [[Measured.from_dict(part) for part in parts] for parts in of_ranks]

    def devices_of_ranks(self) -> tuple[str, ...]:
        """The devices that all ranks computed on, kind and board of each, in the order in which they came."""
        of_ranks = self._from_all(self._devices())
        return tuple(dict.fromkeys(device for devices in of_ranks for device in devices))

    def host_energy(self) -> tuple[Measured, ...]:
        """What the meter of the PC beside a board says of each part; nothing where there is no board."""
        return (*self.earlier_host, *([self.host_gauge.measured()] if self.host_gauge else []))

    def restore(self, spent: list[dict[str, Any]]) -> None:
        """Go on from a checkpoint.

        Raises: KeyError, TypeError or ValueError when it does not say what every rank has spent.
        """
        if len(spent) != self.group.size:
            raise ValueError(f"spent is of {len(spent)} ranks, not {self.group.size}")
        mine = spent[self.group.rank]
        self.earlier_s = mine["wall_s"]
        self.earlier_devices = tuple(map(str, mine.get("devices", ())))
        self.earlier = rows_from(mine["rows"])
        self.earlier_energy = tuple(map(Measured.from_dict, mine["energy"]))
        self.earlier_host = tuple(map(Measured.from_dict, mine.get("host", ())))
        for part in (*self.earlier_energy, *self.earlier_host):
            check_numbers(part)
        check_numbers(self)

    def rows(self) -> tuple[LedgerRow, ...]:
        """What this rank has executed so far."""
        return merged((*self.earlier, *self.ledger.snapshot()))

    def _devices(self) -> list[str]:
        kind = self.device.partition(" ")[0]  # all that earlier checkpoints have
        return [*dict.fromkeys((*(each for each in self.earlier_devices if each != kind), self.device))]

    def _energy(self) -> tuple[Measured, ...]:
        return (*self.earlier_energy, *([self.gauge.measured()] if self.gauge else []))

    def _from_all(self, raw: Any) -> list[Any]:
        return [json.loads(text) for text in self.group.texts(json.dumps(raw))]
