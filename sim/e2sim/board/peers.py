# SPDX-License-Identifier: Apache-2.0
"""Who is connected, by Linux' table of TCP connections: gRPC tells a server of no client that leaves."""

from __future__ import annotations

from pathlib import Path

__all__ = ["is_connected"]

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
