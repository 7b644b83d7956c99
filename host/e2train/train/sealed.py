# SPDX-License-Identifier: Apache-2.0
"""Files of tensors that are read only if every bit is as it was saved."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from e2train.train.errors import TrainError
from e2train.train.files import write_atomically

__all__ = ["read_sealed", "sealed", "write_sealed"]


def sealed(content: dict[str, Any]) -> memoryview:
    """What ``torch.load`` reads with ``weights_only``, with a checksum behind it."""
    held = io.BytesIO()
    torch.save(content, held)
    held.write(_checksum(held.getbuffer()))
    return held.getbuffer()


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write such a file as a whole."""
    write_atomically(path, sealed(content))  # torch.save hides a full disk behind an error of its own


def read_sealed(path: Path, *, remedy: str) -> dict[str, Any]:
    """Read such a file; ``remedy`` ends the text of an error.

    Raises: TrainError when any bit of it has changed, or it holds anything else.
    """
    whole = memoryview(path.read_bytes())
    length = len(_checksum(b""))
    data, checksum = whole[:-length], bytes(whole[-length:])
    if not checksum.startswith(b"sha256 "):
        raise TrainError(f"{path} is damaged or of an earlier version: it has no checksum; {remedy}")
    if checksum != _checksum(data):
        raise TrainError(f"{path} is damaged: its checksum does not match; {remedy}")
    try:
        content = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises a different one for each way of being unreadable
        raise TrainError(f"{path} cannot be read: {' '.join(str(error).split())[:100]}; {remedy}") from error
    if not isinstance(content, dict):
        raise TrainError(f"{path} holds a {type(content).__name__}; {remedy}")
    return content


def _checksum(data: bytes | memoryview) -> bytes:
    return f"sha256 {hashlib.sha256(data).hexdigest()}\n".encode()
