# SPDX-License-Identifier: Apache-2.0
"""Files that sensors show themselves in, of this machine or of any other that reads files."""

from __future__ import annotations

from pathlib import Path

from e2train.energy.meters.protocol import ReadFile
from e2train.energy.readings import EnergyError

__all__ = ["read_local_file", "read_micro"]


def read_local_file(path: str) -> bytes | None:
    """A file of this machine."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def read_micro(read_file: ReadFile, path: str, sensor: str) -> float:
    """The number in a file of microwatts or microjoules, in watts or joules.

    Raises: EnergyError when the file has gone, or holds no number.
    """
    content = read_file(path)
    if content is None:
        raise EnergyError(f"sensor {sensor} is gone: no file {path}")
    try:
        return int(content) / 1e6
    except ValueError:
        raise EnergyError(f"sensor {sensor} says {content[:40]!r}, which is no number") from None
