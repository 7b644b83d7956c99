# SPDX-License-Identifier: Apache-2.0
"""pynq's client of a remote board, with a deadline for each of its calls. Needs the pynq package."""

from __future__ import annotations

from typing import Any

import grpc
from pynq.pl_server.remote_device import RemoteDevice

from e2train.devices.deadline import Deadline

__all__ = ["RemoteBoard"]


class RemoteBoard(RemoteDevice):  # type: ignore[misc]
    """A PYNQ.remote board; a call that it does not answer in time ends with DEADLINE_EXCEEDED."""

    def __init__(self, host: str, port: int, deadline: Deadline) -> None:
        self._deadline = deadline
        super().__init__(0, f"[{host}]" if ":" in host else host, port)

    def get_arch(self) -> Any:
        """The first thing that pynq asks a board: until then its stubs have called nothing."""
        channel = grpc.intercept_channel(self.client.channel, _Interceptor(self._deadline))
        stubs = vars(self)["_stub"]
        self._stub = {name: type(stub)(channel) for name, stub in stubs.items()}
        return super().get_arch()


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
):
    """Gives every call the time that is left."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(timeout=self._deadline.call_s()), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = _call
