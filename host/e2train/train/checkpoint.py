# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are whole or not there."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from e2train.train.errors import TrainError

__all__ = ["load_checkpoint", "save_checkpoint", "write_atomically"]

_FORMAT = 2


def save_checkpoint(
    path: Path, *, config_hash: str, state: dict[str, Any], spent: list[dict[str, Any]]
) -> None:
    """Save what training depends on (``state``) and what every rank has ``spent``."""
    content = {"format": _FORMAT, "config_hash": config_hash, "state": state, "spent": spent}
    scratch = path.with_suffix(".tmp")
    held = io.BytesIO()  # torch.save hides a full disk behind an error of its own
    torch.save(content, held)
    try:
        with scratch.open("wb") as file:
            file.write(held.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    _publish(scratch, path)


def load_checkpoint(path: Path, *, config_hash: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The state, and what every rank had spent.

    Raises: TrainError when there is no checkpoint, or it is of another kind of run.
    """
    if not path.is_file():
        raise TrainError(f"nothing to resume: {path} does not exist; leave --resume out to start")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises a different one for each way of being damaged
        reason = " ".join(str(error).split())[:100] or "empty"
        raise TrainError(f"{path} is damaged: {reason}; start again without --resume") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise TrainError(f"{path} is not a checkpoint of format {_FORMAT}; start again without --resume")
    if content["config_hash"] != config_hash:
        raise TrainError(
            f"{path} was saved with other settings; resume with those of {path.with_name('config.toml')}"
        )
    return content["state"], content["spent"]


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content as a whole."""
    scratch = path.with_suffix(path.suffix + ".tmp")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _publish(scratch, path)


def _publish(scratch: Path, path: Path) -> None:
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)
