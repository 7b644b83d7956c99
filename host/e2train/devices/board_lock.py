# SPDX-License-Identifier: Apache-2.0
"""One program at a time on a board: a file on it names the one, for as long as that renews it.

Boards offer files and nothing else that programs on several PCs could share. So the lock is a lease by the
board's own clock: a program that stops renewing it, because it was killed for example, loses it. Of two that
ask at the same moment, reading back what was written shows which one holds it.
"""

from __future__ import annotations

import getpass
import json
import math
import os
import secrets
import socket
import threading
import time
import weakref
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from e2train.devices.protocol import DeviceError, DeviceLostError

__all__ = ["BoardFiles", "BoardLock", "BusyError"]

_PATH = "/run/e2train.lock"  # in memory: a board that restarts is free
_CLOCK = "/proc/uptime"
_LEASE_S = 10.0
_RENEW_S = 2.0
_SETTLE_S = 0.3  # more than lies between finding a board free and writing that it no longer is
_FILE_BYTES = 1024  # always as many: not every server cuts off what an overwritten file had beyond


class BusyError(DeviceError):
    """A board that another program uses."""


class BoardFiles(Protocol):
    """The files of a board."""

    @property
    def where(self) -> str:
        """Which board, for messages."""
        ...

    def read_file(self, path: str) -> bytes | None: ...
    def write_file(self, path: str, content: bytes) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lease:
    key: str
    holder: str
    since: str
    until_s: float  # seconds since the board was started

    @property
    def words(self) -> str:
        """The holder for a person, whatever the file holds."""
        text = f"{self.holder} (since {self.since})"
        return "".join(letter if letter.isprintable() else "?" for letter in text)[:160]


class BoardLock:
    """The lock of one device, kept by a thread from ``acquire`` to ``release``."""

    def __init__(self) -> None:
        self._key = secrets.token_hex(16)
        self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._files: BoardFiles | None = None
        self._taken_by: str | None = None
        self._mutex = threading.Lock()
        self._released: threading.Event | None = None  # ends the thread

    def acquire(self, files: BoardFiles) -> None:
        """Lock a board, or go on holding it after it was connected again.

        Raises: BusyError naming who uses it; DeviceError where the board has no such files.
        """
        with self._mutex:
            self._files = None
            _wait_until_free(files, self._key)
            self._write(files)
            time.sleep(_SETTLE_S)
            if (other := _other(files, self._key)) is not None:
                raise _busy(files, other)
            self._files = files
        if self._released is None:
            self._released = threading.Event()
            arguments = (weakref.ref(self), self._released)
            threading.Thread(target=_keep, args=arguments, name="board lock", daemon=True).start()

    def check(self) -> None:
        """Make sure that the board is still this program's.

        Raises: DeviceLostError when it lost the lock, as a process does that was stopped for a while.
        """
        if self._taken_by is not None:
            raise DeviceLostError(
                f"the board was taken over by {self._taken_by}, as this process did not renew its lock "
                f"for {_LEASE_S:g} s"
            )

    def renew(self) -> None:
        """Extend the lease, unless it was lost; a board that does not answer is left to the next transfer."""
        with self._mutex:
            files = self._files
            if files is None:
                return
            try:
                if (other := _other(files, self._key)) is None:
                    self._write(files)
                else:
                    self._taken_by, self._files = other.words, None
            except DeviceError:
                pass

    def release(self) -> None:
        """Let others use the board.

        Raises: DeviceError when it does not answer.
        """
        if self._released is not None:
            self._released.set()
            self._released = None
        with self._mutex:
            files, self._files = self._files, None
            if files is not None:
                files.write_file(_PATH, b"{}".ljust(_FILE_BYTES))

    def forget(self) -> None:
        """Give up the lock of a board that is gone: it expires. A renewal under way is not waited for."""
        self._files = None

    def _write(self, files: BoardFiles) -> None:
        lease = _Lease(
            key=self._key, holder=_holder(), since=self._since, until_s=_board_clock_s(files) + _LEASE_S
        )
        files.write_file(_PATH, json.dumps(asdict(lease)).encode().ljust(_FILE_BYTES))


def _keep(lock: weakref.ref[BoardLock], released: threading.Event) -> None:
    """Renew a lock until it is released, or its device was forgotten."""
    while not released.wait(_RENEW_S):
        if (held := lock()) is None:
            return
        held.renew()
        del held


def _wait_until_free(files: BoardFiles, key: str) -> None:
    """Wait for a lease that nobody renews to end; a holder that renews it is alive."""
    first = other = _other(files, key)
    while other is not None:
        if other != first:
            raise _busy(files, other)
        time.sleep(_SETTLE_S)
        other = _other(files, key)


def _busy(files: BoardFiles, other: _Lease) -> BusyError:
    return BusyError(
        f"{files.where} is in use by {other.words}; wait until that program ends, or use another board"
    )


def _other(files: BoardFiles, key: str) -> _Lease | None:
    """Who else holds the board now."""
    lease = _parse(files.read_file(_PATH))
    if lease is None or lease.key == key:
        return None
    left_s = lease.until_s - _board_clock_s(files)
    return lease if 0 < left_s <= 2 * _LEASE_S else None  # more: from before the board's last start


def _parse(content: bytes | None) -> _Lease | None:
    """The lease in a file; None where it holds none."""
    try:
        record: dict[str, Any] = json.loads(content or b"")
        lease = _Lease(**record)
        texts = isinstance(lease.key, str) and isinstance(lease.holder, str) and isinstance(lease.since, str)
        return lease if texts and math.isfinite(lease.until_s) else None
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        return None


def _board_clock_s(files: BoardFiles) -> float:
    content = files.read_file(_CLOCK)
    try:
        return float((content or b"").split()[0])
    except (ValueError, IndexError):
        raise DeviceError(f"{files.where} cannot be locked: it has no {_CLOCK}") from None


def _holder() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"user {os.getuid()}"
    return f"{user[:32]}@{socket.gethostname()[:64]}, process {os.getpid()}"
