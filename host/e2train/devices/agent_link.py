# SPDX-License-Identifier: Apache-2.0
"""The connection between a PC and an agent: HTTP within a deadline; whether the other side hung up."""

from __future__ import annotations

import http.client
import select
import socket
import time
from http import HTTPStatus
from typing import Any

from e2train.devices.agent_wire import DamagedError
from e2train.devices.protocol import DeviceError

__all__ = ["AgentLink", "hung_up"]

_MOST_ERROR_BYTES = 1 << 10


class AgentLink(http.client.HTTPConnection):
    """A connection whose requests, connecting and slow replies included, end at a given moment."""

    def __init__(self, host: str, port: int, *, token: str) -> None:
        super().__init__(host, port)
        self._token = token
        self._end = 0.0

    def ask(self, verb: str, path: str, body: bytes = b"", *, most: int, end: float) -> bytes:
        """The reply to one request, of at most ``most`` bytes, before ``time.monotonic()`` is ``end``.

        Raises: DeviceError for what the agent refuses; DamagedError for what changed on its way; OSError or
            HTTPException when the connection breaks, or time is up. The connection is closed then.
        """
        self._end = end
        if isinstance(self.sock, _TimedSocket):
            self.sock.end = end
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/octet-stream"}
        try:
            self.request(verb, path, body, headers)
            return _content(self.getresponse(), most)
        except BaseException:  # an interrupt too leaves a request half done
            self.close()
            raise

    def connect(self) -> None:
        """Try all addresses of the host; http.client would give each of them the whole time."""
        failure = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, 0, socket.SOCK_STREAM
        ):
            sock = _TimedSocket(family, kind, protocol)
            sock.end = self._end
            try:
                sock.settimeout(sock.left_s())
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                failure = error
            else:
                self.sock = sock
                return
        raise failure

    @property
    def stands(self) -> bool:
        """Whether there is a connection that the agent has not given up, as it does when nothing comes."""
        return self.sock is not None and not hung_up(self.sock)


class _TimedSocket(socket.socket):
    """Sends and receives until a moment, however slowly the bytes go."""

    end = 0.0

    def left_s(self) -> float:
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def sendall(self, *arguments: Any) -> None:
        self.settimeout(self.left_s())
        super().sendall(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(self.left_s())
        return super().recv_into(*arguments)


def hung_up(sock: socket.socket) -> bool:
    """Whether the other side of a connection has closed it, and nothing of it is left to read."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    try:
        return bool(poll.poll(0)) and not sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _content(response: http.client.HTTPResponse, most: int) -> bytes:
    if response.status == HTTPStatus.OK:
        if response.length is None or response.length > most:
            raise DamagedError(f"the reply's length is {response.length}, must be given and at most {most}")
        return response.read()
    text = response.read(_MOST_ERROR_BYTES).decode("utf-8", "replace") or response.reason
    reason = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if response.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise DamagedError(reason)
    raise DeviceError(reason)
