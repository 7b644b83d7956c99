# SPDX-License-Identifier: Apache-2.0
"""The agent on a board: computes convolutions for a PC that trains. It needs NumPy and nothing else."""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from e2train.config import EngineConfig
from e2train.devices.agent_wire import WireError, decode_call, encode_result
from e2train.devices.protocol import DeviceError, ShapeError, StreamDevice, TensorDevice
from e2train.numerics import ExactnessError
from e2train.numerics.frame import FrameError
from e2train.runtime.execute import execute

__all__ = ["AgentServer", "make_token"]

_TIMEOUT_S = 60  # of a connection that says nothing


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
    ) -> None:
        """``port`` 0 takes a free one; ``most_bytes`` is the largest request."""
        super().__init__((bind, port), _Handler)
        self.device = device
        self.config = config
        self.token = token
        self.most_bytes = most_bytes
        self.computing = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    """GET /info, POST /compute."""

    protocol_version = "HTTP/1.1"  # keeps connections open
    server_version = "e2train-agent"
    sys_version = ""
    timeout = _TIMEOUT_S
    server: AgentServer

    def do_GET(self) -> None:
        if not self._allowed():
            return
        if self.path != "/info":
            self._refuse(HTTPStatus.NOT_FOUND, f"no {self.path[:80]}; there are /info and /compute")
            return
        config, device = self.server.config, self.server.device
        told = {"config": config.name, "config_hash": config.hash32, "device": device.name}
        self._answer(HTTPStatus.OK, json.dumps(told).encode())

    def do_POST(self) -> None:
        if not self._allowed():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > self.server.most_bytes:
            most = self.server.most_bytes >> 20
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has a length of at most {most} MiB")
            return
        message = self.rfile.read(int(length))
        if self.path != "/compute":
            self._refuse(HTTPStatus.NOT_FOUND, f"no {self.path[:80]}; there are /info and /compute")
            return
        try:
            call = decode_call(message)
            if call.mode == "forward" and 4 * call.shape.results > self.server.most_bytes:
                raise WireError(f"the result would take {4 * call.shape.results} bytes; send smaller batches")
            with self.server.computing:
                result = execute(call, self.server.device)
        except (WireError, ShapeError, ExactnessError, FrameError, MemoryError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error) or "out of memory")
        except DeviceError as error:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        else:
            self._answer(HTTPStatus.OK, encode_result(result))

    def log_message(self, format: str, *args: object) -> None:
        """One line per request would be thousands."""

    def _allowed(self) -> bool:
        said = self.headers.get("Authorization", "").encode("latin1", "replace")
        if hmac.compare_digest(said, f"Bearer {self.server.token}".encode()):
            return True
        self._refuse(HTTPStatus.UNAUTHORIZED, "the token is not this agent's; copy its token file")
        return False

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # what the request still holds is not read
        self._answer(status, " ".join(reason.split()).encode())

    def _answer(self, status: HTTPStatus, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def make_token(path: Path) -> str:
    """The token in a file that only its owner can read; a new one where there is none."""
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    path.touch(mode=0o600)
    path.write_text(token + "\n", encoding="ascii")
    return token
