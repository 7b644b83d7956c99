# SPDX-License-Identifier: Apache-2.0
"""Serve a simulated board."""

from __future__ import annotations

import errno
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent import futures
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from e2hls.simulation.toolchain import SimulationError

from e2sim.board.bitstream import Design
from e2sim.board.board import Board, BoardModel
from e2sim.board.clients import is_connected
from e2sim.board.faults import Fault, FaultKind, FaultPlan
from e2sim.board.services import CallCounter, Services

__all__ = ["PYNQ_PORT", "BoardServer", "check_address"]

PYNQ_PORT = 7967  # where pynq's client looks

_WORKERS = 64  # threads are made when they are needed
_PATIENCE_S = 10.0  # with an upload that brings nothing
_KEEPALIVE_MS = 10_000  # after which a client that vanished counts as gone
_OF_PORTS = (errno.EADDRINUSE, errno.EACCES)
_AWAY_S = 0.5  # how long a dropped connection is away
_SILENCE_S = 60.0


class BoardServer:
    """A simulated board behind gRPC; it listens from the start, and until it is closed."""

    def __init__(
        self,
        model: BoardModel,
        build: Callable[[Design], Path],
        *,
        bind: str = "127.0.0.1",
        port: int = PYNQ_PORT,
        faults: Iterable[Fault] = (),
        patience_s: float = _PATIENCE_S,
        silence_s: float = _SILENCE_S,
    ) -> None:
        """``port`` 0 picks a free one; an upload that brings nothing for ``patience_s`` is ended.

        ``silence_s`` is how long the fault ``silent`` lasts.

        Raises: SimulationError when the address cannot be had.
        """
        self.faults = FaultPlan(faults)
        self._switch_on: Callable[[], Board] = partial(
            Board, model, build, faults=self.faults, interrupt=self._interrupt
        )
        self._patience_s, self._silence_s = patience_s, silence_s
        self._boot()
        self._counter = CallCounter()
        self._bind = bind
        self._host = _bracketed(bind)
        self._closed = threading.Event()
        self._server, self.port = self._listen(port)
        threading.Thread(
            target=self._watch, args=(patience_s / 4,), name="stalled uploads", daemon=True
        ).start()

    @property
    def address(self) -> str:
        """Where it listens, as HOST:PORT."""
        return f"{self._host}:{self.port}"

    @property
    def calls(self) -> Counter[str]:
        """Remote calls so far, by name."""
        return self._counter.calls

    def wait(self) -> None:
        """Serve until it is closed."""
        self._closed.wait()

    def close(self) -> None:
        """Stop serving, and switch the board off."""
        self._closed.set()
        self._server.stop(0.2).wait()
        self.board.close()

    def __enter__(self) -> BoardServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self, port: int) -> tuple[Any, int]:
        server = grpc.server(
            futures.ThreadPoolExecutor(_WORKERS),
            interceptors=[self._counter],
            options=[("grpc.so_reuseport", 0), ("grpc.keepalive_time_ms", _KEEPALIVE_MS)],
        )
        self._services.add_to(server)
        check_address(self._bind, port)  # as gRPC prints lines of its own where it cannot
        try:
            bound = server.add_insecure_port(f"{self._host}:{port}")
        except RuntimeError as error:  # somebody was faster
            raise _unavailable(self._bind, port, OSError(errno.EADDRINUSE, "it is taken")) from error
        server.start()
        return server, bound

    def _watch(self, period_s: float) -> None:
        while not self._closed.wait(period_s):
            self._services.uploads.end_stalled()

    def _boot(self) -> None:
        """A board as it is after power-up, behind services that know no client."""
        self.board = self._switch_on()
        self._services = Services(
            self.board,
            is_connected=lambda peer: is_connected(peer, port=self.port),
            patience_s=self._patience_s,
        )

    def _interrupt(self, kind: FaultKind) -> None:
        """Say nothing for a while, or break all connections for a moment, from within a call."""
        if kind == "silent":
            self._counter.hold(self._closed, self._silence_s)
            return

        def away() -> None:
            self._server.stop(None).wait()
            if kind == "restart":
                self.board.close()
                self._boot()
            while not self._closed.wait(_AWAY_S):
                try:
                    self._server, self.port = self._listen(self.port)
                    return
                except SimulationError:  # for a moment the port may be that of somebody's connection
                    continue

        threading.Thread(target=away, name="dropped connection", daemon=True).start()


def check_address(bind: str, port: int) -> None:
    """Bind to an address for a moment.

    Raises: SimulationError when it is not this machine's, or its port cannot be had.
    """
    try:
        if not 0 <= port < 1 << 16:
            raise OverflowError("a port must be in 0..65535, where 0 picks a free one")
        if not bind:
            raise OSError(errno.EADDRNOTAVAIL, "no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:  # the last of impossible names
        raise _unavailable(bind, port, error) from error


def _unavailable(bind: str, port: int, error: Exception) -> SimulationError:
    of_port = isinstance(error, OverflowError) or getattr(error, "errno", None) in _OF_PORTS
    advice = "choose another --port" if of_port else "give --bind an address of this machine"
    reason = getattr(error, "strerror", None) or error
    return SimulationError(f"cannot listen on {_bracketed(bind)}:{port}: {reason}; {advice}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
