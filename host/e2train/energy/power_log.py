# SPDX-License-Identifier: Apache-2.0
"""Samples on their way to the disk: as power in a CSV file, and in full in a file without a name."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER", "PowerLog", "Spool", "power_line"]

HEADER = "time_s,power_w,step\n"


def power_line(time_s: float, power_w: float, mark: int) -> str:
    """A line of a file that ``csv:FILE`` reads."""
    return f"{time_s:.9f},{power_w:.6f},{mark}\n"


class Spool:
    """Records in a file without a name: days of them take no memory until somebody asks."""

    def __init__(self, record: np.dtype[Any]) -> None:
        self._record = record
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # ends with this object
        self._lock = threading.Lock()
        self._count = 0

    def append(self, *values: float) -> None:
        """Add a record.

        Raises: OSError where there is no room for it; those before it stay.
        """
        raw = np.array([values], self._record).tobytes()
        with self._lock:
            if os.pwrite(self._file.fileno(), raw, self._count * len(raw)) != len(raw):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._count += 1

    def read(self) -> NDArray[Any]:
        """All records so far."""
        with self._lock:
            raw = os.pread(self._file.fileno(), self._count * self._record.itemsize, 0)
        return np.frombuffer(raw, self._record)


class PowerLog:
    """A file that ``csv:FILE`` reads, to which each sample is appended as it comes.

    Times are those since the window's start, which the idle time comes before: until then samples wait.
    """

    def __init__(self, path: Path, *, after_s: float | None = None) -> None:
        """With ``after_s`` the file is gone on with, as by a window that began so late, without idle time."""
        self._path, self._after_s = path, after_s
        self._waiting: list[tuple[float, float, int]] = []
        self._file: TextIO | None = None
        self._start_s = 0.0
        self._error: OSError | None = None
        self._lock = threading.Lock()

    def begin(self, start_s: float) -> None:
        """The window starts, at this time of the samples' clock."""
        with self._lock:
            self._start_s = start_s
            try:
                append = self._after_s is not None and self._path.exists()
                self._file = self._path.open("a" if append else "w", encoding="utf-8")
                self._file.write("" if append else HEADER)
            except OSError as error:
                self._error = error
            waiting, self._waiting = self._waiting, []
            for sample in waiting:
                self._write(*sample)

    def add(self, time_s: float, power_w: float, mark: int) -> None:
        """Write a sample."""
        with self._lock:
            if self._file is None and self._error is None:
                self._waiting.append((time_s, power_w, mark))
            else:
                self._write(time_s, power_w, mark)

    def close(self) -> None:
        """End the file.

        Raises: OSError when a sample could not be written.
        """
        with self._lock:
            if self._file is not None:
                self._file.close()
            if self._error is not None:
                raise self._error

    def _write(self, time_s: float, power_w: float, mark: int) -> None:
        since_s = time_s - self._start_s
        if self._file is None or self._error is not None or (self._after_s is not None and since_s < 0):
            return
        try:
            self._file.write(power_line(since_s + (self._after_s or 0.0), power_w, mark))
            self._file.flush()
        except OSError as error:
            self._error = error
