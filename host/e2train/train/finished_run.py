# SPDX-License-Identifier: Apache-2.0
"""A finished run: everything that lies in its folder, read and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from e2train.energy import PHASES, Origin, read_csv_log
from e2train.train.checks import check_numbers
from e2train.train.config import RunConfig, read_config
from e2train.train.errors import TrainError
from e2train.train.evaluation import Evaluation, read_evaluation
from e2train.train.folder import RunFolder
from e2train.train.run_ledger import RunLedger, read_run_ledger
from e2train.train.summary import Summary, executed

__all__ = ["FinishedRun", "PowerSamples", "differences", "read_power", "read_run"]

_TEXTS_AND_LISTS: dict[str, type] = {"str": str, "list[float]": list, "dict[str, float]": dict}
_SHARES = (
    "test_accuracy",
    "validation_accuracy",
    "psg_predicted_fraction",
    "saturated_share",
    "moving_share",
)
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSamples:
    """Power over time; ``steps`` says which step was under way, -1 before the first."""

    times_s: Floats
    powers_w: Floats
    steps: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRun:
    """Everything that a report shows of a run."""

    config: RunConfig
    summary: Summary
    ledger: RunLedger
    steps: list[dict[str, Any]]
    power: PowerSamples | None
    evaluation: Evaluation | None = None

    @property
    def label(self) -> str:
        """Its name among other runs."""
        where = "" if self.summary.device == "host" else f" on {self.summary.device.partition(':')[0]}"
        part = "" if self.summary.tested == "test" else f", {self.summary.tested}"
        return f"{self.summary.method}{where}{part}"


def differences(runs: Sequence[FinishedRun]) -> str:
    """In what runs differ so that they do not belong in one plot; empty where in nothing."""
    said = {
        "presets": [run.summary.preset for run in runs],
        "scheduled steps": [str(run.ledger.scheduled_steps) for run in runs],
        "batches": [str(run.config.batch) for run in runs],
        "training images": [run.config.data_sha256[:12] or "those of the preset" for run in runs],
        "image sizes": [f"{run.config.image_size or 'that of the preset'}" for run in runs],
        "channels": [f"{run.config.channels or 'those of the preset'}" for run in runs],
        "augmentation": [run.config.augment for run in runs],
        "tested images": [
            f"{run.config.test_images or 'all'} of {run.summary.tested}"
            + (
                f" ({run.config.validation:g} of those of training, seed {run.config.seed})"
                if run.config.validation
                else ""
            )
            for run in runs
        ],
        "execution": [run.config.execution for run in runs],
        "frozen layers": [run.config.freeze or "none" for run in runs],
        "label smoothing": [f"{run.config.label_smoothing:g}" for run in runs],
        "weights at the start": [run.config.init_sha256[:12] or "drawn" for run in runs],
    }
    return "; ".join(
        f"{name} {', '.join(dict.fromkeys(values))}" for name, values in said.items() if len(set(values)) > 1
    )


def read_run(path: Path, *, evaluated: bool = True) -> FinishedRun:
    """Read the folder of a finished run; unless ``evaluated``, without its evaluation.

    Raises: TrainError when it is none.
    """
    if not path.is_dir():
        raise TrainError(f"no folder {path}; give the folder of a run, such as runs/digits-smb-int8")
    folder = RunFolder(path)
    try:
        payload = json.loads(folder.summary.read_text(encoding="utf-8"))
        known = {field.name for field in fields(Summary)}
        summary = Summary(**{key: value for key, value in payload.items() if key in known})
        _check_summary(summary)
    except OSError as error:
        raise TrainError(f"{path} holds no finished run: no {folder.summary.name}") from error
    except (ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
        raise TrainError(f"{folder.summary} is damaged or of another version: {error}") from error
    config = read_config(folder.config)
    if summary.config_sha256 != config.hash:
        raise TrainError(
            f"{folder.summary} is not of the settings in {folder.config.name}, or of another version; give "
            "the whole folder of one run, or train again"
        )
    run = FinishedRun(
        config=config,
        summary=summary,
        ledger=read_run_ledger(folder.ledger),
        steps=folder.rows(),
        power=read_power(folder.power),
        evaluation=read_evaluation(folder.evaluation) if evaluated else None,
    )
    _check_of_one_run(run, folder)
    return run


def _check_summary(summary: Summary) -> None:
    """Look whether values are of their types, shares within 0..1, counts and joules not negative.

    Raises: ValueError naming the first that is not.
    """
    check_numbers(summary)
    for field in fields(summary):
        kind, *others = str(field.type).split(" | ")
        value = getattr(summary, field.name)
        if value is None and "None" in others:
            continue
        if kind in _TEXTS_AND_LISTS:
            _check_values(field.name, value, kind)
        elif kind in ("int", "float") and value < 0 and field.name != "energy_net_j":
            raise ValueError(f"{field.name} is {value}, not at least 0")
    shares = {name: getattr(summary, name) for name in _SHARES}
    shares |= dict.fromkeys(("block_skip_rates",), max(summary.block_skip_rates, default=0.0))
    for name, share in shares.items():
        if share is not None and share > 1:
            raise ValueError(f"{name} is {share}, not in 0..1")
    if summary.energy_origin not in (None, *get_args(Origin)):
        raise ValueError(
            f"energy_origin is {summary.energy_origin!r}, not one of {', '.join(get_args(Origin))}"
        )
    if summary.energy_phases_j is not None and set(summary.energy_phases_j) != set(PHASES):
        raise ValueError(f"energy_phases_j must have the keys {', '.join(PHASES)}")


def _check_values(name: str, value: object, kind: str) -> None:
    """Look whether a text is one, and whether lists and tables have numbers from 0 on."""
    if not isinstance(value, _TEXTS_AND_LISTS[kind]):
        raise ValueError(f"{name} must be of type {kind}, not {type(value).__name__}")
    numbers = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    least = -math.inf if name == "energy_phases_j" else 0.0  # idle, a sensor may be below 0
    if not all(type(number) in (int, float) and least <= number < math.inf for number in numbers):
        raise ValueError(f"{name} must hold finite numbers{'' if least else ' from 0 on'}")


def _check_of_one_run(run: FinishedRun, folder: RunFolder) -> None:
    """Look whether the files of a folder say the same of the run.

    Raises: TrainError naming the first that does not.
    """
    ledger, summary = run.ledger, run.summary
    sums = executed(run.config, ledger)
    wrong = {
        folder.ledger: any(getattr(summary, key) != value for key, value in sums.items())
        or ledger.samples > ledger.scheduled_samples
        or bool(ledger.steps_run) != bool(ledger.samples),
        folder.metrics: len(run.steps) != summary.steps_run,
    }
    for path, contradicts in wrong.items():
        if contradicts:
            raise TrainError(
                f"{path} is damaged or of another run: it contradicts {folder.summary.name}; give the whole "
                "folder of one run"
            )
    if run.evaluation is not None and _is_of_another(run.evaluation, summary):
        raise TrainError(
            f"{folder.evaluation} is of another run: it contradicts {folder.summary.name}; write it again "
            "with e2train evaluate, or give the whole folder of one run"
        )


def _is_of_another(evaluation: Evaluation, summary: Summary) -> bool:
    if evaluation.weights_sha256:
        return evaluation.weights_sha256 != summary.weights_sha256
    return evaluation.tested == summary.tested and evaluation.accuracy != summary.accuracy


def read_power(path: Path) -> PowerSamples | None:
    """The samples of a power.csv; None where there are fewer than two.

    Raises: EnergyError or TrainError when it is damaged.
    """
    if not path.exists() or path.read_bytes().count(b"\n") < 3:  # the header is one
        return None
    log = read_csv_log(path)
    try:
        steps = np.loadtxt(path, delimiter=",", skiprows=1, usecols=2, ndmin=1, max_rows=len(log.times_s))
    except ValueError as error:
        raise TrainError(f"{path} is damaged: its third column must be the number of a step") from error
    return PowerSamples(times_s=log.times_s, powers_w=log.powers_w, steps=steps)
