# SPDX-License-Identifier: Apache-2.0
"""Agents in this process, real ones and some that answer as a test says; messages of theirs, altered."""

from __future__ import annotations

import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from e2train.config import load_config
from e2train.devices.agent_wire import AgentInfo, decode_call, encode_info, encode_result
from e2train.devices.protocol import StreamDevice
from e2train.devices.resident import ResidentDevice
from e2train.devices.spec import SpecDevice
from e2train.runtime import execute
from e2train.runtime.agent import AgentServer

__all__ = [
    "CONFIG",
    "INFO",
    "TOKEN",
    "altered",
    "checked",
    "flipped",
    "http_reply",
    "message",
    "right_reply",
    "scripted",
    "serving",
]

TOKEN = "0123456789abcdef" * 2
CONFIG = load_config("pynq_z2")
INFO = AgentInfo(config=CONFIG.name, config_hash=CONFIG.hash32, device="spec", most_bytes=1 << 20)

Answer = Callable[[bytes], Iterable[bytes]]


def message(head: bytes, rest: bytes = b"") -> bytes:
    """A message with this head, whatever it is."""
    return checked(len(head).to_bytes(4, "little") + head + rest)


def checked(content: bytes) -> bytes:
    """The same bytes with the check word that belongs to them."""
    return content + zlib.crc32(content).to_bytes(4, "little")


def altered(good: bytes, change: dict[str, object]) -> bytes:
    """A good message with another head."""
    size = int.from_bytes(good[:4], "little")
    head = json.loads(good[4 : 4 + size]) | change
    return message(json.dumps(head).encode(), good[4 + size : -4])


def flipped(content: bytes, bit: int) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def right_reply(request: bytes) -> bytes:
    """The message that answers the call in a message."""
    return encode_result(execute(decode_call(request), SpecDevice(CONFIG)), request=request)


def http_reply(content: bytes, *, length: object = None) -> bytes:
    """An HTTP reply; ``length`` is what it states."""
    stated = len(content) if length is None else length
    return f"HTTP/1.1 200 OK\r\nContent-Length: {stated}\r\n\r\n".encode() + content


@contextmanager
def serving(
    device: StreamDevice,
    *,
    most_bytes: int = 1 << 20,
    open_resident: Callable[[], ResidentDevice] | None = None,
) -> Iterator[AgentServer]:
    """A real agent in this process."""
    with AgentServer(
        device, device.config, token=TOKEN, port=0, most_bytes=most_bytes, open_resident=open_resident
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def scripted(answer: Answer) -> Iterator[str]:
    """The address of an agent that introduces itself, and answers a call with the parts of ``answer``."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_serve, args=(server, answer), daemon=True).start()
        try:
            yield f"agent:127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)  # wakes accept


def _serve(server: socket.socket, answer: Answer) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, connection.makefile("rb") as file:
            try:
                while line := file.readline():
                    body = _body(file)
                    asked = line.startswith(b"POST")
                    for part in answer(body) if asked else [http_reply(encode_info(INFO))]:
                        connection.sendall(part)
            except OSError:
                continue


def _body(file: BinaryIO) -> bytes:
    length = 0
    while (line := file.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return file.read(length)
