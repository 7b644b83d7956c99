# SPDX-License-Identifier: Apache-2.0
"""The files of a run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2train.train.checkpoint import write_atomically
from e2train.train.config import RunConfig
from e2train.train.errors import TrainError
from e2train.train.loop import Row

__all__ = ["RunFolder"]


class RunFolder:
    """Settings, metrics, checkpoint, summary and report of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Make the folder, for a run to write to.

        Raises: TrainError when it cannot be written.
        """
        path = self.path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(path, error.strerror) from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise _unwritable(path, "Permission denied")

    @property
    def config(self) -> Path:
        """How the run was set."""
        return self.path / "config.toml"

    @property
    def checkpoint(self) -> Path:
        """Where the run goes on from."""
        return self.path / "checkpoint.pt"

    @property
    def metrics(self) -> Path:
        """One JSON line per step."""
        return self.path / "metrics.jsonl"

    @property
    def ledger(self) -> Path:
        """What was executed, by layer and direction."""
        return self.path / "ledger.json"

    @property
    def power(self) -> Path:
        """Samples of a power meter, where there was one."""
        return self.path / "power.csv"

    @property
    def summary(self) -> Path:
        """The figures of a finished run."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """The run in pictures."""
        return self.path / "report.html"

    def begin(self, config: RunConfig, *, overwrite: bool = False) -> None:
        """Start a new run, in the place of any finished one that was here.

        Raises: TrainError when an unfinished run would be lost, unless it may be overwritten.
        """
        if self.checkpoint.exists() and not self.summary.exists() and not overwrite:
            raise TrainError(f"{self.path} holds an unfinished run; go on with --resume, or use --overwrite")
        for path in (self.checkpoint, self.summary, self.report, self.ledger, self.power):
            path.unlink(missing_ok=True)
        self.metrics.write_text("", encoding="utf-8")
        write_atomically(self.config, config.to_toml())

    def go_on(self, step: int, *, measured_s: float = 0.0) -> None:
        """Forget what was logged after a step, and what a meter said later than ``measured_s``."""
        kept = [json.dumps(row) for row in self.rows() if row["step"] <= step]
        write_atomically(self.metrics, "".join(f"{line}\n" for line in kept))
        if self.power.exists():
            head, *samples = self.power.read_text(encoding="utf-8").splitlines(keepends=True)
            early = [line for line in samples if float(line.partition(",")[0]) <= measured_s]
            write_atomically(self.power, "".join([head, *early]))

    def log(self, row: Row) -> None:
        """Append a step."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All logged steps; a last line that was cut off is left out."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def finish(self, *, ledger: str, report: str, summary: str) -> None:
        """Write what a finished run leaves; the summary last, as it says that all is there."""
        write_atomically(self.ledger, ledger + "\n")
        write_atomically(self.report, report)
        write_atomically(self.summary, summary + "\n")


def _unwritable(path: Path, reason: str | None) -> TrainError:
    return TrainError(f"cannot write to {path}: {reason}; choose another folder with --out")
