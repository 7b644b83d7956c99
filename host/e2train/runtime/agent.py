# SPDX-License-Identifier: Apache-2.0
"""The agent on a board: computes for a PC that trains. It needs NumPy and nothing else."""

from __future__ import annotations

import hmac
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.agent_link import hung_up
from e2train.devices.agent_token import check_token
from e2train.devices.agent_wire import (
    AgentInfo,
    DamagedError,
    WireError,
    decode_call,
    encode_info,
    encode_result,
    result_layout,
)
from e2train.devices.protocol import (
    OPERANDS,
    Closing,
    DeviceError,
    DeviceLostError,
    LayerCall,
    LayerResult,
    ShapeError,
    StreamDevice,
    TensorDevice,
    Transfer,
    products_per_multiplier,
)
from e2train.devices.resident import ResidentDevice
from e2train.devices.resident_wire import decode_batch
from e2train.numerics import ExactnessError
from e2train.numerics.frames import FrameError
from e2train.runtime.agent_memory import AgentMemory
from e2train.runtime.execute import execute

__all__ = ["AgentServer"]

_TIMEOUT_S = 60  # of a connection that says nothing
_CLOSE_S = 10.0  # for the operation under way when the agent ends
_HEAD_S = 10.0  # until a connection has shown the token
_MOST_CONNECTIONS = 64
_LOOK_S = 0.5  # between two looks whether a waiting client is still there
_WHERE = "there are /info, /compute and /resident"


class AgentServer(ThreadingHTTPServer):
    """Offers one device to whoever knows the token; one convolution at a time."""

    daemon_threads = True

    def __init__(
        self,
        device: TensorDevice | StreamDevice,
        config: EngineConfig,
        *,
        token: str,
        bind: str = "127.0.0.1",
        port: int = 7968,
        most_bytes: int = 256 << 20,
        open_resident: Callable[[], ResidentDevice] | None = None,
    ) -> None:
        """``port`` 0 picks a free one; ``most_bytes`` bounds a request, its operands and its result.

        ``open_resident`` gives the device for resident tensors, once somebody wants one.

        Raises: DeviceError for a token that can be guessed; OSError when it cannot listen there.
        """
        check_token(token, source="the token")
        self._resident = AgentMemory(open_resident, most_bytes=most_bytes)
        self._computing = threading.Lock()
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._closed = False
        super().__init__((bind, port), _Handler)  # closes what it has not opened
        self.device = device
        self.config = config
        self.token = token
        self.most_bytes = most_bytes

    def compute(self, call: LayerCall, client: socket.socket) -> LayerResult:
        """Compute a call once it is its turn, as long as its client is there.

        Raises: WireError when it would take too much memory; DeviceError when the device fails.
        """
        _check_memory(call, self.config, self.most_bytes)
        with self._turn(client):
            device = self.device
            return execute(call, device if isinstance(device, TensorDevice) else _Attended(device, client))

    def run_resident(self, message: bytes, client: socket.socket) -> bytes:
        """The reply to a batch of resident operations, once it is its turn.

        Raises: WireError for a batch that does not follow; DeviceError when the device fails.
        """
        batch = decode_batch(message, most_bytes=self.most_bytes)
        with self._turn(client):
            return self._resident.run(batch, message)

    @contextmanager
    def _turn(self, client: socket.socket) -> Iterator[None]:
        """One request at a time, as long as its client is there."""
        while not self._computing.acquire(timeout=_LOOK_S):
            _check_client(client)
        try:
            _check_client(client)
            yield
        finally:
            self._computing.release()

    def server_close(self) -> None:
        """Stop listening, and once nothing is computed any more give the memory for resident tensors back."""
        super().server_close()
        if not self._closed:
            self._closed = True
            self._computing.acquire(timeout=_CLOSE_S)  # and kept: nothing more is computed
            self._resident.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or end it where there are too many."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was to be had
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve it, and give its place to the next one."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or stops reading, is no error of the agent's."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Attended(Closing):
    """The engine for one request: nothing more is transferred once the client has hung up."""

    def __init__(self, device: StreamDevice, client: socket.socket) -> None:
        self._device = device
        self._client = client
        self.name, self.config = device.name, device.config
        self.parallel, self.tries = device.parallel, device.tries

    def transfer(self, words: NDArray[np.uint64], *, reply_words: int) -> Transfer:
        _check_client(self._client)
        return self._device.transfer(words, reply_words=reply_words)


class _Handler(BaseHTTPRequestHandler):
    """GET /info, POST /compute and /resident."""

    protocol_version = "HTTP/1.1"  # keeps connections open
    server_version = "e2train-agent"
    sys_version = ""
    timeout = _TIMEOUT_S
    server: AgentServer

    def setup(self) -> None:
        """Let the connection end, however slowly it sends, unless it shows the token."""
        super().setup()
        self._watch = threading.Timer(_HEAD_S, self._end)
        self._watch.daemon = True
        self._watch.start()

    def finish(self) -> None:
        """End the watch with the connection."""
        self._watch.cancel()
        super().finish()

    def _end(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        if not self._allowed():
            return
        if self.path != "/info":
            self._refuse(HTTPStatus.NOT_FOUND, f"no {self.path[:80]}; {_WHERE}")
            return
        server = self.server
        info = AgentInfo(
            config=server.config.name,
            config_hash=server.config.hash32,
            device=server.device.name,
            most_bytes=server.most_bytes,
        )
        self._answer(HTTPStatus.OK, encode_info(info))

    def do_POST(self) -> None:
        if not self._allowed():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 15 or int(length) > self.server.most_bytes:
            most = self.server.most_bytes >> 20
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has a length of at most {most} MiB")
            return
        if self.path not in ("/compute", "/resident"):
            self._refuse(HTTPStatus.NOT_FOUND, f"no {self.path[:80]}; {_WHERE}")
            return
        self._compute(self.rfile.read(int(length)))

    def log_message(self, format: str, *args: object) -> None:
        """One line per request would be thousands."""

    def _compute(self, message: bytes) -> None:
        try:
            if self.path == "/resident":
                reply = self.server.run_resident(message, self.connection)
            else:
                result = self.server.compute(decode_call(message), self.connection)
                reply = encode_result(result, request=message)
        except DamagedError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except (WireError, ShapeError, ExactnessError, FrameError, MemoryError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error) or "out of memory")
        except DeviceError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception as error:
            self.server.handle_error(self.request, self.client_address)  # for whoever corrects the agent
            self.close_connection = True
            self._refuse(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"the agent failed: {type(error).__name__}: {error}"
            )
        else:
            self._answer(HTTPStatus.OK, reply)

    def _allowed(self) -> bool:
        said = self.headers.get("Authorization", "").encode("latin1", "replace")
        if hmac.compare_digest(said, f"Bearer {self.server.token}".encode()):
            self._watch.cancel()
            return True
        self._refuse(HTTPStatus.UNAUTHORIZED, "the token is not this agent's; copy its token file")
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # what the request still holds is not read
        self._answer(status, " ".join(reason.split()).encode("utf-8", "replace"))

    def _answer(self, status: HTTPStatus, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _check_client(client: socket.socket) -> None:
    if hung_up(client):
        raise DeviceLostError("the client has hung up")


def _check_memory(call: LayerCall, config: EngineConfig, most_bytes: int) -> None:
    """Refuse a call with a tensor that takes too much memory, in the engine's whole vectors of channels."""
    s, mode = call.shape, call.mode
    lanes = max(config.ic_lanes, config.oc_lanes * products_per_multiplier(mode))
    c, k, images = -(-s.C // lanes) * lanes, -(-s.K // lanes) * lanes, max(1, s.N)
    elements = {"x": images * c * s.H * s.W, "w": k * c * s.R * s.S, "gy": images * k * s.P * s.Q}
    a, b = OPERANDS[mode]
    result = {"forward": "gy", "grad_input": "x"}.get(mode, "w")
    tensors = {
        a: elements[a] * call.a.dtype.itemsize,
        b: elements[b] * call.b.dtype.itemsize,
        "the result": elements[result] * result_layout(call)[0].itemsize,
    }
    for name, size in tensors.items():
        if size > most_bytes:
            raise WireError(
                f"{call.label}: {name} would take {size} bytes in the engine's vectors, the agent's limit is "
                f"{most_bytes}; send smaller batches, or start the agent with a larger --max-mb"
            )
