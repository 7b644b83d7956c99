# SPDX-License-Identifier: Apache-2.0
"""Downloads of data sets: gone on with where they stopped, and unpacked only if every bit is right."""

from __future__ import annotations

import hashlib
import http.client
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2train.train.data.dataset import DataError
from e2train.train.files import exclusive_lock

__all__ = ["SOURCES", "Source", "fetch", "is_there"]

_CHUNK = 1 << 18
_TIMEOUT_S = 30.0  # without a byte
_LARGEST_FILE = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An archive of a data set."""

    url: str
    sha256: str
    nbytes: int
    files: tuple[str, ...]  # of the archive that are unpacked, with their folder

    @property
    def archive(self) -> str:
        """Its file's name."""
        return self.url.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The folder that its files are in."""
        return self.files[0].partition("/")[0]


_BATCHES = (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch", "batches.meta")
SOURCES = {
    "cifar10": Source(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        nbytes=170_498_071,
        files=tuple(f"cifar-10-batches-py/{name}" for name in _BATCHES),
    ),
    "cifar100": Source(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        nbytes=169_001_437,
        files=tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta")),
    ),
}


def is_there(source: Source, to: Path) -> bool:
    """Whether all files of an archive are in ``to``; what is in them is not looked at."""
    return all((to / name).is_file() for name in source.files)


def fetch(source: Source, to: Path, *, watch: Callable[[int, int], None] = lambda done, of: None) -> Path:
    """Download and unpack an archive into ``to``, and return the folder of its files.

    What is there already is kept, unchecked; ``watch`` sees how many bytes there are, of how many.

    Raises: DataError when the server cannot be reached, or gives something else; OSError for the disk.
    """
    folder = to / source.folder
    if is_there(source, to):
        return folder
    to.mkdir(parents=True, exist_ok=True)
    part = to / f"{source.archive}.part"
    try:
        with exclusive_lock(to / f".{source.archive}.lock"):
            _download(source, part, watch)
            _check(source, part)
            _unpack(source, part, to)
            part.unlink()
    except BlockingIOError as error:
        raise DataError(f"{to} is in use by {error.strerror}; wait for that download") from None
    return folder


def _download(source: Source, part: Path, watch: Callable[[int, int], None]) -> None:
    there = part.stat().st_size if part.exists() else 0
    if there >= source.nbytes:
        return
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={there}-"} if there else {})
    again = f"the next call goes on after {part}, or unpack {source.archive} into {part.parent} yourself"
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            if not _continues(response, there):
                there = 0
            with part.open("ab" if there else "wb") as file:
                while there < source.nbytes and (chunk := response.read(_CHUNK)):
                    file.write(chunk)
                    there += len(chunk)
                    watch(there, source.nbytes)
    except urllib.error.HTTPError as error:
        raise DataError(f"{source.url}: the server says {error.code} {error.reason}; {again}") from None
    except urllib.error.URLError as error:
        raise DataError(f"cannot reach {source.url}: {_reason(error.reason)}; {again}") from None
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise DataError(f"{source.url} stopped after {there} bytes: {_reason(error)}; {again}") from None
    if there < source.nbytes:
        raise DataError(f"{source.url} ended after {there} of {source.nbytes} bytes; {again}")


def _continues(response: http.client.HTTPResponse, there: int) -> bool:
    """Whether a response goes on behind the bytes that are there; else it begins at the first."""
    return response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {there}-")


def _check(source: Source, part: Path) -> None:
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != source.sha256:
        part.unlink()
        raise DataError(
            f"{source.url} gave a file with SHA-256 {digest.hexdigest()}, not {source.sha256}; "
            "the file was removed; try again, or use another --url"
        )


def _unpack(source: Source, part: Path, to: Path) -> None:
    """Write the files that are wanted, each as a whole, and nothing else that the archive may hold."""
    (to / source.folder).mkdir(exist_ok=True)
    try:
        with tarfile.open(part, "r:gz") as archive:
            for name in source.files:
                member = archive.getmember(name)
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or member.size > _LARGEST_FILE:
                    raise DataError(f"{part}: {name} is no file of at most {_LARGEST_FILE >> 20} MiB")
                scratch = to / f"{name}.tmp"
                scratch.write_bytes(content.read())
                scratch.replace(to / name)
    except (KeyError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{part} is not the archive it should be: {' '.join(str(error).split())}") from error


def _reason(error: object) -> str:
    text = getattr(error, "strerror", None) or error
    return " ".join(str(text).split()) or type(error).__name__
