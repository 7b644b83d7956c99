# SPDX-License-Identifier: Apache-2.0
"""A board without torch, behind the agent that runs on it: one request per convolution or chain."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from e2train.config import EngineConfig
from e2train.devices.address import parse_address
from e2train.devices.agent_link import AgentLink
from e2train.devices.agent_token import default_token_file, read_token
from e2train.devices.agent_wire import (
    DamagedError,
    WireError,
    decode_info,
    decode_result,
    encode_call,
    most_result_bytes,
)
from e2train.devices.protocol import (
    Closing,
    Counters,
    DeviceError,
    DeviceLostError,
    LayerCall,
    LayerResult,
)

__all__ = ["AgentClient", "AgentDevice", "beside"]

_T = TypeVar("_T")

_PORT = 7968
_MOST_INFO_BYTES = 1 << 16
_TRIES = 3  # of a message that changes on its way
_PAUSE_S = 0.2  # between two looks whether an agent is back
_BROKEN = (OSError, http.client.HTTPException)


class AgentClient(Closing):
    """One side of the requests to ``e2train board agent``.

    A message that changed on its way is sent again; an agent that is restarted is awaited.
    """

    name = "agent"

    def __init__(
        self,
        config: EngineConfig,
        *,
        address: str,
        token_file: Path | None = None,
        deadline_s: float = 60.0,
    ) -> None:
        """``deadline_s`` is how long a request may take, with everything that belongs to it.

        Raises: DeviceError when the agent does not answer, or serves another configuration.
        """
        host, port = parse_address("agent", address, port=_PORT)
        self._config = config
        self._address = f"{host}:{port}"
        self._deadline_s = deadline_s
        self._most_bytes = 0
        token = _token(token_file)
        try:
            self._link = AgentLink(host, port, token=token)
            self._identify(time.monotonic() + deadline_s)
        except WireError as error:
            raise DeviceError(
                f"what answers at {self._address} is no e2train agent of this version ({error})"
            ) from error
        except (*_BROKEN, UnicodeError) as error:  # UnicodeError: no host has such a name
            raise DeviceLostError(f"agent {self._address} does not answer: {_reason(error)}") from error
        except DeviceError as error:
            raise DeviceError(f"agent {self._address}: {error}") from error

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    def _exchange(
        self, label: str, path: str, request: bytes, decode: Callable[[bytes], _T], *, most: int
    ) -> tuple[_T, Counters]:
        """What ``decode`` makes of the reply to a request, and what it took beside what the agent counts.

        Raises: DeviceError when the agent reports an error, or its replies are not what they should be;
            DeviceLostError when it is gone.
        """
        begin = time.monotonic()
        where = f"{label} on agent {self._address}"
        try:
            found, retries = self._persist(path, request, decode, begin + self._deadline_s, most)
        except _BROKEN as error:
            raise DeviceLostError(
                f"{where} does not answer: {_reason(error)}; no result within {self._deadline_s:g} s"
            ) from error
        except (DeviceError, WireError) as error:
            raise DeviceError(f"{where}: {error}") from error
        elapsed_s = time.monotonic() - begin
        return found, Counters(retries=retries, remote_calls=1, device_s=elapsed_s, moving_s=elapsed_s)

    def _persist(
        self, path: str, request: bytes, decode: Callable[[bytes], _T], end: float, most: int
    ) -> tuple[_T, int]:
        """Ask until there is a reply: of a damaged message a few times, of an agent that is gone until
        ``end``."""
        damaged = 0
        lost: Exception | None = None
        while True:
            try:
                found = decode(self._attempt(path, request, end, most))
            except DamagedError as error:
                self._link.close()
                damaged += 1
                if damaged == _TRIES:
                    raise DeviceError(f"{error} (tried {_TRIES} times)") from error
            except _BROKEN as error:
                lost = lost or error
                if time.monotonic() + _PAUSE_S >= end:
                    raise lost from None
                time.sleep(_PAUSE_S)
            else:
                return found, damaged + (lost is not None)

    def _attempt(self, path: str, request: bytes, end: float, most: int) -> bytes:
        if not self._link.stands:
            self._link.close()
            self._identify(end)
        if len(request) > self._most_bytes:
            raise DeviceError(
                f"the request has {len(request)} bytes, the agent takes {self._most_bytes}; "
                "send smaller batches, or start the agent with a larger --max-mb"
            )
        return self._link.ask("POST", path, request, most=most, end=end)

    def _identify(self, end: float) -> None:
        """Look who is there: after a restart it may be another."""
        info = decode_info(self._link.ask("GET", "/info", most=_MOST_INFO_BYTES, end=end))
        if info.config_hash != self._config.hash32:
            raise DeviceError(
                f"the agent serves the configuration {info.config!r}, the host expects {self._config.name}; "
                "choose it with --board"
            )
        self._most_bytes = info.most_bytes


class AgentDevice(AgentClient):
    """Sends whole tensors to an agent and gets whole tensors back."""

    def compute(self, call: LayerCall) -> LayerResult:
        """Compute one call on the board.

        Raises: DeviceError when the agent reports an error, or its replies are not what they should be;
            DeviceLostError when it is gone.
        """
        request = encode_call(call)
        result, taken = self._exchange(
            call.label,
            "/compute",
            request,
            lambda reply: decode_result(reply, call, request=request),
            most=most_result_bytes(call),
        )
        return replace(result, counters=result.counters + beside(result.counters, taken))


def beside(there: Counters, taken: Counters) -> Counters:
    """What a request took beside what the agent counts: there the time moved no bytes."""
    moving_s = max(0.0, taken.device_s - there.device_s)
    return replace(taken, device_s=moving_s, moving_s=moving_s)


def _token(file: Path | None) -> str:
    try:
        return read_token(file or Path(default_token_file()))
    except DeviceError as error:
        raise DeviceError(
            f"{error}; copy it from the board, where the agent wrote it, or give its place with "
            "--set token_file=FILE"
        ) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
