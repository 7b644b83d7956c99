# SPDX-License-Identifier: Apache-2.0
"""Clients that leave or stall.

gRPC informs a server of no client that leaves; Linux' table of TCP connections shows who is connected.
Uploads that stall are ended, so that none of them holds a worker of the server for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc

__all__ = ["Uploads", "is_connected"]

_LARGE_BYTES = 1 << 20  # clients cut what is larger into several requests
_SETTLE_S = 0.2
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"


def is_connected(peer: str, *, port: int) -> bool:
    """Whether the client that gRPC calls ``peer``, as ``ipv4:127.0.0.1:40000``, has a connection to a port.

    Where nobody can tell it has.
    """
    number = peer.rpartition(":")[2]
    if not number.isdecimal():
        return True
    rows = []
    for table in _TABLES:
        try:
            rows += [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
        except OSError:
            continue
    if not rows:
        return True
    wanted = (f"{port:04X}", f"{int(number):04X}")
    return any(
        (local.rpartition(":")[2], remote.rpartition(":")[2]) == wanted and state == _ESTABLISHED
        for _, local, remote, state, *_ in rows
    )


class Uploads:
    """The streams of requests under way, and when each last brought something."""

    def __init__(self, *, patience_s: float) -> None:
        self._patience_s = patience_s
        self._heard_s: dict[Any, float] = {}
        self._lock = threading.Lock()

    def pieces(self, requests: Iterable[Any], context: Any) -> Iterator[Any]:
        """The requests of one upload; what was cut off ends the call instead."""
        size = 0
        self._hear(context)
        try:
            for request in requests:
                self._hear(context)
                size += len(request.data)
                yield request
        finally:
            with self._lock:
                stalled = self._heard_s.pop(context, None) is None
        if stalled or (size > _LARGE_BYTES and _was_cut_off(context)):
            context.abort(grpc.StatusCode.CANCELLED, "the upload was cut off")

    def end_stalled(self) -> None:
        """Cancel the uploads that have brought nothing for too long."""
        latest_s = time.monotonic() - self._patience_s
        with self._lock:
            stalled = [context for context, heard_s in self._heard_s.items() if heard_s < latest_s]
            for context in stalled:
                del self._heard_s[context]
        for context in stalled:
            context.cancel()

    def _hear(self, context: Any) -> None:
        with self._lock:
            self._heard_s[context] = time.monotonic()


def _was_cut_off(context: Any) -> bool:
    """Whether the client of a stream is gone: that comes to light a moment after the stream has ended."""
    end_s = time.monotonic() + _SETTLE_S
    while context.is_active() and time.monotonic() < end_s:
        time.sleep(_SETTLE_S / 20)
    return not context.is_active()
