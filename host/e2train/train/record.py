# SPDX-License-Identifier: Apache-2.0
"""A finished run as it lies in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from e2train.energy import read_csv_log
from e2train.train.account import Account, read_account
from e2train.train.checks import check_numbers
from e2train.train.config import RunConfig, read_config
from e2train.train.errors import TrainError
from e2train.train.folder import RunFolder
from e2train.train.summary import Summary

__all__ = ["PowerSamples", "Record", "read_record"]

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSamples:
    """Power over time; ``steps`` says which step was under way, -1 before the first."""

    times_s: Floats
    powers_w: Floats
    steps: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything that a report shows of a run."""

    config: RunConfig
    summary: Summary
    account: Account
    steps: list[dict[str, Any]]
    power: PowerSamples | None

    @property
    def label(self) -> str:
        """Its name among other runs."""
        where = "" if self.summary.device == "host" else f" on {self.summary.device.partition(':')[0]}"
        part = "" if self.summary.tested == "test" else f", {self.summary.tested}"
        return f"{self.summary.method}{where}{part}"


def read_record(path: Path) -> Record:
    """Read the folder of a finished run.

    Raises: TrainError when it is none.
    """
    if not path.is_dir():
        raise TrainError(f"no folder {path}; give the folder of a run, such as runs/digits-smb-int8")
    folder = RunFolder(path)
    try:
        told = json.loads(folder.summary.read_text(encoding="utf-8"))
        known = {field.name for field in fields(Summary)}
        summary = Summary(**{key: value for key, value in told.items() if key in known})
        check_numbers(summary)
    except OSError as error:
        raise TrainError(f"{path} holds no finished run: no {folder.summary.name}") from error
    except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
        raise TrainError(f"{folder.summary} is damaged or of another version: {error}") from error
    return Record(
        config=read_config(folder.config),
        summary=summary,
        account=read_account(folder.ledger),
        steps=folder.rows(),
        power=read_power(folder.power),
    )


def read_power(path: Path) -> PowerSamples | None:
    """The samples of a power.csv; None where there are fewer than two.

    Raises: EnergyError or TrainError when it is damaged.
    """
    if not path.exists() or path.read_bytes().count(b"\n") < 3:  # the header is one
        return None
    log = read_csv_log(path)
    try:
        steps = np.loadtxt(path, delimiter=",", skiprows=1, usecols=2, ndmin=1)
    except ValueError as error:
        raise TrainError(f"{path} is damaged: its third column must be the number of a step") from error
    return PowerSamples(times_s=log.times_s, powers_w=log.powers_w, steps=steps)
