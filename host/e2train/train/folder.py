# SPDX-License-Identifier: Apache-2.0
"""The files of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2train.train.checkpoint import save_checkpoint
from e2train.train.checks import check_numbers
from e2train.train.config import RunConfig
from e2train.train.errors import TrainError
from e2train.train.files import exclusive_lock, write_atomically
from e2train.train.loop import Row
from e2train.train.tensorboard import EVENTS, EventFile
from e2train.train.trained import TrainedModel, save_trained

__all__ = ["RunFolder"]

_TAGS = ("loss", "accuracy", "lr", "blocks_run", "energy_saved")  # of TensorBoard's curves


class RunFolder:
    """Settings, metrics, checkpoint, summary and report of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def held(self, *, otherwise: str = "choose another folder with --out") -> Iterator[None]:
        """Make the folder, and keep other runs out of it; ``otherwise`` ends the text of an error.

        A folder that is new, and in which an error leaves nothing, is removed.
        Raises: TrainError when it cannot be written, or another run holds it.
        """
        path = self.path
        with ExitStack() as stack:
            try:
                if not path.exists():
                    stack.callback(_remove_if_empty, path)
                path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive_lock(path / ".lock"))
            except BlockingIOError as error:
                raise TrainError(
                    f"{path} is in use by {error.strerror}; wait for that run, or {otherwise}"
                ) from None
            except OSError as error:
                raise TrainError(f"cannot write to {path}: {error.strerror}; {otherwise}") from error
            yield

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
    def model(self) -> Path:
        """The trained model, with what it takes to use it."""
        return self.path / "model.pt"

    @property
    def evaluation(self) -> Path:
        """What the trained model took the tested images for."""
        return self.path / "evaluation.json"

    @property
    def report(self) -> Path:
        """The run in charts."""
        return self.path / "report.html"

    def refuse_taken(self) -> None:
        """Keep a new run from taking the place of another.

        Raises: TrainError when there is one.
        """
        if self.summary.exists():
            raise TrainError(
                f"{self.path} holds a finished run; choose another folder with --out, or replace it with "
                "--overwrite"
            )
        if self.checkpoint.exists():
            raise TrainError(f"{self.path} holds an unfinished run; go on with --resume, or use --overwrite")

    def refuse_finished(self) -> None:
        """Keep a run that is over from being gone on with, perhaps on another device than it was trained on.

        Raises: TrainError when it is over.
        """
        if self.summary.exists():
            raise TrainError(
                f"{self.path} holds a finished run, so there is nothing to resume; test it again with "
                "e2train evaluate, or train again with --overwrite"
            )

    def begin(self, config: RunConfig) -> None:
        """Start a new run, in the place of any that was here."""
        for path in self._of_a_run():
            path.unlink(missing_ok=True)
        with self.writing(self.metrics):
            self.metrics.write_text("", encoding="utf-8")
        self.write_config(config)

    def write_config(self, config: RunConfig) -> None:
        """Write the settings."""
        self._replace(self.config, config.to_toml())

    def _of_a_run(self) -> tuple[Path, ...]:
        """The summary first, as it says that all is there."""
        return (
            self.summary,
            self.checkpoint,
            self.report,
            self.ledger,
            self.power,
            self.model,
            self.evaluation,
            *self.path.glob(f"{EVENTS}*"),
            *self.path.glob("exported.*"),
        )

    def keeps(self, path: Path) -> bool:
        """Whether a path is that of a file of the run, which it would replace."""
        mine = (self.metrics, self.config, *self._of_a_run())
        return path.resolve() in {each.resolve() for each in mine}

    def go_on(self, step: int, *, steps_run: int, measured_s: float = 0.0) -> None:
        """Forget what was logged after a step, and what a meter said later than ``measured_s``.

        Raises: TrainError naming a line that is damaged, or when fewer than ``steps_run`` steps are logged.
        """
        kept = [json.dumps(row) for row in self.rows() if row["step"] <= step]
        if len(kept) != steps_run:
            raise TrainError(
                f"{self.metrics} holds {len(kept)} of the {steps_run} steps that were run when "
                f"{self.checkpoint.name} was saved; restore the file, or start again with --overwrite "
                "instead of --resume"
            )
        self._replace(self.metrics, "".join(f"{line}\n" for line in kept))
        if self.power.exists():
            head, *samples = self.power.read_bytes().splitlines(keepends=True) or [b""]
            whole = [line for line in samples if line.endswith(b"\n")]
            early = [line for line in whole if _time_s(line, self.power) <= measured_s]
            self._replace(self.power, b"".join([head, *early]))

    def log(self, row: Row, events: EventFile | None = None) -> None:
        """Append a step, also to TensorBoard's events."""
        with self.writing(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        if events is not None:
            with self.writing(events.path):
                events.add(
                    row.step, {tag: value for tag in _TAGS if (value := getattr(row, tag)) is not None}
                )

    def open_events(self) -> EventFile:
        """A file of TensorBoard's for the steps from here on.

        Raises: TrainError when it cannot be written.
        """
        with self.writing(self.path):
            return EventFile(self.path)

    def rows(self) -> list[dict[str, Any]]:
        """All logged steps; a last line that was cut off is left out.

        Raises: TrainError naming the first line that is no step, or does not follow the one before.
        """
        rows: list[dict[str, Any]] = []
        lines = self.metrics.read_bytes().splitlines(keepends=True) if self.metrics.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                rows.append(_row(line, after=rows[-1]["step"] if rows else 0))
            except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
                if not line.endswith(b"\n"):
                    break
                reason = " ".join(str(error).split())[:100]
                raise TrainError(
                    f"{self.metrics}, line {number} is no step: {reason}; remove the line to leave it out"
                ) from error
        return rows

    def save(self, config: RunConfig, state: dict[str, Any], spent: list[dict[str, Any]]) -> None:
        """Save a checkpoint, and before it what was logged up to there.

        Raises: TrainError when they cannot be written.
        """
        with self.writing(self.metrics), self.metrics.open("rb") as file:
            os.fsync(file.fileno())
        with self.writing(self.checkpoint):
            save_checkpoint(self.checkpoint, config=config, state=state, spent=spent)

    def finish(
        self, *, model: TrainedModel, evaluation: str, ledger: str, report: Callable[[], str], summary: str
    ) -> None:
        """Write what a finished run leaves; the summary last, as it says that all is there."""
        with self.writing(self.model):
            save_trained(self.model, model)
        self._replace(self.evaluation, evaluation + "\n")
        self._replace(self.ledger, ledger + "\n")
        self._replace(self.report, report())
        self._replace(self.summary, summary + "\n")

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Say which file could not be written, and from where the run can go on."""
        try:
            yield
        except OSError as error:
            stands = (
                "the last checkpoint stands, go on from it with --resume"
                if self.checkpoint.exists()
                else "no checkpoint was saved yet, start the run again"
            )
            raise TrainError(f"cannot write {path}: {error.strerror}; {stands}") from error

    def _replace(self, path: Path, content: str | bytes) -> None:
        with self.writing(path):
            write_atomically(path, content)


def _row(line: bytes, *, after: int) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"it is a {type(row).__name__}")
    check_numbers(Row(**row))
    if row["step"] <= after:
        raise ValueError(f"step {row['step']} is not after step {after}")
    return row


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _time_s(sample: bytes, path: Path) -> float:
    try:
        return float(sample.partition(b",")[0])
    except ValueError:
        shown = sample[:40].decode(errors="replace").strip()
        raise TrainError(f"{path}: {shown!r} is no sample; remove the line to leave it out") from None
