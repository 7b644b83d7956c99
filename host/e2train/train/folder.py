# SPDX-License-Identifier: Apache-2.0
"""The files of a run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2train.train.checkpoint import write_atomically
from e2train.train.config import RunConfig
from e2train.train.errors import TrainError
from e2train.train.loop import Row

__all__ = ["RunFolder", "Summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a finished run was and did; None where something was not measured or does not apply."""

    preset: str
    method: str
    device: str
    board: str
    ranks: int  # whose counts add up
    seed: int
    test_accuracy: float
    steps_run: int
    steps_dropped: int
    blocks_run: int  # residual branches, times training pictures
    blocks_skipped: int
    block_skip_rates: list[float]  # of each block
    psg_predicted_fraction: float | None = None
    weights_sha256: str
    state_sha256: str
    config_sha256: str
    macs: int | None  # on the device
    host_macs: int  # of convolutions on the host, in float32
    computation: float  # both, in float32 multiply-accumulates: MACs x bits x bits / 1024
    training_computation: float  # without the final test
    cycles: int | None
    bytes_moved: int | None
    saturations: int
    retries: int  # of transfers
    remote_calls_per_step: float | None  # of executed training steps, on a board
    device_s_per_step: float | None  # waiting for the board
    moving_share: float | None  # what of that moved bytes
    energy_modelled_j: float | None = None
    energy_measured_j: float | None = None
    energy_simulated_j: float | None = None
    energy_source: str | None = None
    threads: int
    wall_s: float
    out: str

    def to_json(self, indent: int | None = None) -> str:
        """The text of summary.json."""
        return json.dumps(asdict(self), indent=indent)


class RunFolder:
    """Settings, metrics, checkpoint, summary and report of one run."""

    def __init__(self, path: Path) -> None:
        """Make the folder.

        Raises: TrainError when it cannot be written.
        """
        self.path = path
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
    def report(self) -> Path:
        """The run in pictures."""
        return self.path / "report.html"

    def begin(self, config: RunConfig, *, overwrite: bool = False) -> None:
        """Start a new run, in the place of any finished one that was here.

        Raises: TrainError when an unfinished run would be lost, unless it may be overwritten.
        """
        if self.checkpoint.exists() and not (self.path / "summary.json").exists() and not overwrite:
            raise TrainError(f"{self.path} holds an unfinished run; go on with --resume, or use --overwrite")
        for name in ("checkpoint.pt", "summary.json", "report.html"):
            (self.path / name).unlink(missing_ok=True)
        self.metrics.write_text("", encoding="utf-8")
        write_atomically(self.config, config.to_toml())

    def go_on(self, step: int) -> None:
        """Forget what was logged after a step."""
        kept = [json.dumps(row) for row in self.rows() if row["step"] <= step]
        write_atomically(self.metrics, "".join(f"{line}\n" for line in kept))

    def log(self, row: Row) -> None:
        """Append a step."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All logged steps; a last line that was cut off is left out."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def finish(self, summary: Summary, report: str) -> None:
        """Write the summary and the report."""
        write_atomically(self.report, report)
        write_atomically(self.path / "summary.json", summary.to_json(indent=2) + "\n")


def _unwritable(path: Path, reason: str | None) -> TrainError:
    return TrainError(f"cannot write to {path}: {reason}; choose another folder with --out")
