# SPDX-License-Identifier: Apache-2.0
"""Build products, kept by the hash of all that went into them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from e2hls.base.errors import HlsError

__all__ = ["cache_dir", "cached", "content_key"]

_LISTING = ".files.json"  # the sizes of a folder's files


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
    """The folder that ``build`` filled for ``key``; it runs only where no such folder is whole.

    The folder appears whole or not at all, so an interrupted build leaves nothing half-made; one that has
    lost files since is built again. Who wants what another process is building waits for it.

    Raises: HlsError when the cache cannot be written.
    """
    folder = cache_dir() / kind / key
    if _is_whole(folder):
        return folder
    with _writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(folder).open("w")
    _remove_leftovers()
    with _locked(lock):
        if not _is_whole(folder):
            with _writing(folder.parent):
                scratch = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=folder.parent))
            try:
                (scratch / "new").mkdir()
                build(scratch / "new")
                _publish(scratch, folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HlsError(
            f"cannot write {folder}: {error.strerror}; set E2TRAIN_CACHE to a writable folder"
        ) from None


def _lock_of(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"


@contextmanager
def _locked(lock: TextIO) -> Iterator[None]:
    """Hold an exclusive file lock, against processes and threads, and close the file in the end."""
    with lock:
        with suppress(OSError):  # a file system without locks: both build, and one is kept
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _publish(scratch: Path, folder: Path) -> None:
    """Move ``scratch/new`` to ``folder``, with the list of its files that tells whether it is whole."""
    new = scratch / "new"
    (new / _LISTING).write_text(json.dumps(_sizes(new)), encoding="utf-8")
    with suppress(OSError):
        if not _is_whole(folder):
            folder.rename(scratch / "old")
    try:
        new.rename(folder)
    except OSError:
        if not _is_whole(folder):  # else another process was first, with the same content
            raise


def _is_whole(folder: Path) -> bool:
    """Whether a folder was published and has all its files still."""
    try:
        sizes = json.loads((folder / _LISTING).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _remove_leftovers() -> None:
    """Remove what killed builds have left: scratch folders whose lock nobody holds."""
    for scratch in cache_dir().glob("*/.*-*"):
        lock = _lock_of(scratch.with_name(scratch.name[1:].rpartition("-")[0]))
        with suppress(OSError), lock.open("r+") as held:  # no lock file, or one that is held
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(scratch, ignore_errors=True)
