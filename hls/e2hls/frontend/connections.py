# SPDX-License-Identifier: Apache-2.0
"""What may join processes: a stream from one to another, an array that one fills for another, a table."""

from __future__ import annotations

from e2hls.base.errors import HlsError
from e2hls.frontend.variables import Memory, Port

__all__ = ["check_array", "check_stream"]


def check_stream(port: Port, *, internal: bool) -> None:
    """Raises: HlsError for a stream without exactly one end on each side."""
    for users, done in ((port.readers, "read"), (port.writers, "written")):
        if len(users) > 1:
            raise HlsError(
                f"the stream {port.name} is {done} by {' and '.join(users)}; a stream has one end on each "
                "side: use a stream for each of them",
                port.loc,
            )
        if internal and not users:
            other = "written but never read" if done == "read" else "read but never written"
            raise HlsError(f"the stream {port.name} is {other}", port.loc)


def check_array(memory: Memory) -> None:
    """Processes share an array as two copies that they swap, so values do not stay from run to run.

    Raises: HlsError for a static array that several processes use.
    """
    if not memory.static or len(memory.users) < 2:
        return
    users = " and ".join(memory.users)
    if memory.writers:
        raise HlsError(
            f"array {memory.name} is static, but {users} share it, and work on two copies of it in turn; "
            "declare it without static where it is written as a whole each time",
            memory.loc,
        )
    raise HlsError(
        f"array {memory.name} is read by {users} and never written; declare it const: then each has its own",
        memory.loc,
    )
