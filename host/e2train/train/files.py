# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced as a whole, files of tensors with a checksum, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from e2train.train.errors import TrainError

__all__ = ["exclusive_lock", "is_text", "read_sealed", "sealed", "write_atomically", "write_sealed"]


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Replace a file's content as a whole, or raise OSError and leave the file as it was."""
    scratch = path.with_suffix(path.suffix + ".tmp")
    try:
        with scratch.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename2 is None:  # else it names both files already
            error.filename = str(path)
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


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


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive file lock; the kernel releases it when the process dies.

    Raises: BlockingIOError when another process holds it; ``strerror`` says which.
    """
    file = _open_locked(path)
    try:
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {os.uname().nodename}".encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is locked: afterwards it may be another's
        os.close(file)


def _open_locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace") or "another process"
            os.close(file)
            raise BlockingIOError(errno.EWOULDBLOCK, holder) from None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(file)
            raise
        os.close(file)  # its holder has removed it before the lock was taken


def is_text(value: str) -> bool:
    """Whether a file in UTF-8 can hold it; names of files may have other bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
