# SPDX-License-Identifier: Apache-2.0
"""Build products, kept by the hash of all that went into them."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from e2hls.errors import HlsError

__all__ = ["cache_dir", "cached", "content_key"]


def cache_dir() -> Path:
    """Where build products go: ``$E2TRAIN_CACHE``, else ``~/.cache/e2train``."""
    named = os.environ.get("E2TRAIN_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "e2train"


def content_key(*parts: str | bytes | Path | tuple[str, ...]) -> str:
    """Hash of texts, bytes and the content of files, in this order.

    >>> content_key("a", "bc") == content_key("ab", "c")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        data = _data(part)
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]


def _data(part: str | bytes | Path | tuple[str, ...]) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, Path):
        return part.read_bytes()
    return part.encode() if isinstance(part, str) else "\0".join(part).encode()


def cached(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` filled for ``key``; it runs only where no such folder exists.

    The folder appears whole or not at all, so an interrupted build leaves nothing half-made. Who wants what
    another process is building waits for it.

    Raises: HlsError when the cache cannot be written.
    """
    folder = cache_dir() / kind / key
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=folder.parent))
        lock = (folder.parent / f".{key}.lock").open("w")
    except OSError as error:
        raise HlsError(
            f"cannot write {folder.parent}: {error.strerror}; set E2TRAIN_CACHE to a writable folder"
        ) from None
    try:
        with _alone(lock):
            if not folder.is_dir():
                build(scratch)
                _publish(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


@contextmanager
def _alone(lock: TextIO) -> Iterator[None]:
    """Be the only one, of all processes and threads, that holds a file, and close it in the end."""
    with lock:
        with suppress(OSError):  # a file system without locks: both build, and one is kept
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _publish(scratch: Path, folder: Path) -> None:
    scratch.chmod(0o755)
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first, with the same content
            raise
