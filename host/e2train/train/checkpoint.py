# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are whole or not there, and are read only if every bit is as it was saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2train.config.records import RecordError, check_record
from e2train.train.config import RunConfig
from e2train.train.errors import TrainError
from e2train.train.files import read_sealed, write_sealed
from e2train.train.hashing import state_sha256

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

_FORMAT = 4  # from this one on, half of the augmented images are mirrored
_AGAIN = "start again with --overwrite instead of --resume"
_CONTENT = {"format": "int", "settings": "dict", "state": "dict", "state_sha256": "str", "spent": "list"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What training depends on (``state``), its hash, and what every rank has ``spent``."""

    state: dict[str, Any]
    state_sha256: str
    spent: list[dict[str, Any]]


def save_checkpoint(
    path: Path, *, config: RunConfig, state: dict[str, Any], spent: list[dict[str, Any]]
) -> None:
    """Save a state with its hash and the settings that it was reached with; a checksum ends the file."""
    content = {
        "format": _FORMAT,
        "settings": config.determining,
        "state": state,
        "state_sha256": state_sha256(state),
        "spent": spent,
    }
    write_sealed(path, content)


def load_checkpoint(path: Path, *, config: RunConfig) -> Checkpoint:
    """Read a checkpoint of a run with these settings.

    Raises: TrainError when there is none, any bit of it has changed, or its settings are others.
    """
    if not path.is_file():
        raise TrainError(f"nothing to resume: {path} does not exist; leave --resume out to start")
    content = _read(path)
    if content["settings"] != config.determining:
        raise TrainError(_other_settings(path, saved=content["settings"], now=config.determining))
    return Checkpoint(state=content["state"], state_sha256=content["state_sha256"], spent=content["spent"])


def _read(path: Path) -> dict[str, Any]:
    content = read_sealed(path, remedy=_AGAIN)
    if content.get("format") != _FORMAT:
        raise TrainError(f"{path} is not a checkpoint of format {_FORMAT}; {_AGAIN}")
    try:
        return check_record(content, _CONTENT)
    except RecordError as error:
        raise TrainError(f"{path}: {error}; {_AGAIN}") from None


def _other_settings(path: Path, *, saved: dict[str, Any], now: dict[str, Any]) -> str:
    differing = [key for key in {**now, **saved} if saved.get(key) != now.get(key)]
    differences = " and ".join(
        f"{key} {saved.get(key, 'unset')}, not {now.get(key, 'unset')}" for key in differing
    )
    if differing == ["ranks"]:
        return (
            f"{path} was saved by {saved.get('ranks')} ranks, and there are {now.get('ranks')}; resume with "
            f"torchrun --nproc-per-node {saved.get('ranks')} -m e2train train ..."
        )
    if set(differing) <= {"steps", "epochs"}:
        return (
            f"{path} was saved with {differences}; the learning rate and averaging are scheduled over all "
            "steps, so a run of another length cannot go on from it: train that from the start, with another "
            "--out"
        )
    return f"{path} was saved with {differences}; resume with the settings of {path.with_name('config.toml')}"
