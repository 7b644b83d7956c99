# SPDX-License-Identifier: Apache-2.0
"""A board without torch, behind the agent that runs on it: one request per convolution."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import replace
from pathlib import Path

from e2train.config import EngineConfig
from e2train.devices.agent_wire import WireError, decode_result, default_token_file, encode_call
from e2train.devices.protocol import Closing, DeviceError, DeviceLostError, LayerCall, LayerResult

__all__ = ["AgentDevice"]

_PORT = 7968
_MOST_ERROR_BYTES = 1 << 12


class AgentDevice(Closing):
    """Sends whole tensors to ``e2train board agent`` and gets whole tensors back."""

    name = "agent"

    def __init__(
        self,
        config: EngineConfig,
        *,
        address: str,
        token_file: Path | None = None,
        deadline_s: float = 60.0,
    ) -> None:
        """Raises: DeviceError when the agent does not answer, or serves another configuration."""
        host, _, port = address.partition(":")
        if port and not port.isdecimal():
            raise DeviceError(f"device agent:{address}: the port must be a number")
        self._address = f"{host}:{port or _PORT}"
        self._deadline_s = deadline_s
        self._token = _token(token_file)
        self._connection = http.client.HTTPConnection(host, int(port or _PORT), timeout=deadline_s)
        try:
            told = json.loads(self._ask("GET", "/info", b""))
            served = (told["config"], told["config_hash"])
        except (ValueError, KeyError, TypeError) as error:
            raise DeviceError(f"what answers at {self._address} is no e2train agent") from error
        if served[1] != config.hash32:
            raise DeviceError(
                f"the agent at {self._address} serves the configuration {served[0]!r}, the host "
                f"expects {config.name}; choose it with --board"
            )

    def compute(self, call: LayerCall) -> LayerResult:
        """Compute one call on the board.

        Raises: DeviceError when the agent reports an error; DeviceLostError when it is gone.
        """
        begin = time.monotonic()
        try:
            result = decode_result(self._ask("POST", "/compute", encode_call(call), call.label))
        except WireError as error:
            raise DeviceError(f"{call.label} on agent {self._address}: {error}") from error
        elapsed_s, there = time.monotonic() - begin, result.counters
        counters = replace(
            there,
            remote_calls=there.remote_calls + 1,
            device_s=elapsed_s,
            moving_s=there.moving_s + max(0.0, elapsed_s - there.device_s),
        )
        return replace(result, counters=counters)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _ask(self, verb: str, path: str, body: bytes, label: str = "") -> bytes:
        """One request; a connection that broke is made anew, once."""
        where = f"{label} on agent {self._address}" if label else f"agent {self._address}"
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/octet-stream"}
        for last in (False, True):
            try:
                self._connection.request(verb, path, body, headers)
                response = self._connection.getresponse()
                content = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if last or isinstance(error, TimeoutError):
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise DeviceLostError(f"{where} does not answer: {reason}") from error
        if response.status != http.HTTPStatus.OK:
            reason = content[:_MOST_ERROR_BYTES].decode("utf-8", "replace").strip() or response.reason
            raise DeviceError(f"{where}: {reason}")
        return content


def _token(file: Path | None) -> str:
    path = (file or Path(default_token_file())).expanduser()
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DeviceError(
            f"no token in {path}: copy it from the board, where the agent wrote it, or give its place"
            " with --set token_file=FILE"
        ) from error
