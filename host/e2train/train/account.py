# SPDX-License-Identifier: Apache-2.0
"""What a finished run executed, phase by phase: the content of its ledger.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2train.devices.protocol import Counters
from e2train.runtime import LedgerRow, merged
from e2train.train.checks import check_numbers
from e2train.train.errors import TrainError

__all__ = ["Account", "read_account", "rows_from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Ledger rows of the training, of the statistics for averaged weights, and of the final test."""

    scheduled_steps: int
    scheduled_samples: int
    steps_run: int
    samples: int  # of the steps that ran
    ranks: int
    training: tuple[LedgerRow, ...]
    averaging: tuple[LedgerRow, ...]
    test: tuple[LedgerRow, ...]

    @property
    def rows(self) -> tuple[LedgerRow, ...]:
        """All phases, added up."""
        return merged((*self.training, *self.averaging, *self.test))

    def to_json(self) -> str:
        """The text of ledger.json."""
        return json.dumps(asdict(self), indent=1)


def read_account(path: Path) -> Account:
    """Read a ledger.json.

    Raises: TrainError when it is not there or damaged.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        for phase in ("training", "averaging", "test"):
            told[phase] = rows_from(told[phase])
        account = Account(**told)
        check_numbers(account)
    except OSError as error:
        raise TrainError(f"cannot read {path}: {error.strerror}; let the run finish first") from error
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise TrainError(f"{path} is damaged: {' '.join(str(error).split())[:100]}") from error
    return account


def rows_from(told: Iterable[dict[str, Any]]) -> tuple[LedgerRow, ...]:
    """Rows from their dictionaries, those of the same layer and mode added up.

    Raises: KeyError, TypeError or ValueError when they are no rows.
    """
    rows = [LedgerRow(**{**row, "counters": Counters(**row["counters"])}) for row in told]
    for row in rows:
        check_numbers(row)
        check_numbers(row.counters)
    return merged(rows)
