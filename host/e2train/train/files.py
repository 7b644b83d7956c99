# SPDX-License-Identifier: Apache-2.0
"""Files that are replaced as a whole, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["exclusive_lock", "write_atomically"]


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Replace a file's content as a whole, or raise OSError and leave the file as it was."""
    scratch = path.with_suffix(path.suffix + ".tmp")
    try:
        with scratch.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


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
