# SPDX-License-Identifier: Apache-2.0
"""The four gRPC services that the pynq client calls on a board, over a simulated one."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import grpc
from pynq.remote import (
    buffer_pb2,
    buffer_pb2_grpc,
    gpio_pb2,
    gpio_pb2_grpc,
    mmio_pb2,
    mmio_pb2_grpc,
    remote_device_pb2,
    remote_device_pb2_grpc,
)

from e2sim.board.board import Board, BusError
from e2sim.board.clients import Uploads
from e2sim.board.memory import Buffer, NoMemoryError

__all__ = ["CallCounter", "Services"]

_FILE_PIECE = 1 << 10  # the real server's pieces
_BUFFER_PIECE = 1 << 20
_MOST_FILE_BYTES = 128 << 20
_GPIO_PINS = 174


class CallCounter(grpc.ServerInterceptor):  # type: ignore[misc]
    """Counts calls by method name, and holds them up where the board is to be silent."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._silent_until_s = 0.0
        self._over = threading.Event()

    def hold(self, over: threading.Event, duration_s: float) -> None:
        """Answer no call for so long, or until ``over`` is set."""
        self._over, self._silent_until_s = over, time.monotonic() + duration_s

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self._over.wait(max(0.0, self._silent_until_s - time.monotonic()))
        self.calls[details.method.rpartition("/")[2]] += 1
        return continuation(details)


class Services:
    """What a board offers, whichever server it is reached through."""

    def __init__(self, board: Board, *, is_connected: Callable[[str], bool], patience_s: float) -> None:
        """``is_connected`` tells of a client whether it is still there; uploads may pause ``patience_s``."""
        self.uploads = Uploads(patience_s=patience_s)
        self._device = _DeviceService(board, self.uploads)
        self._mmio = _MmioService(board)
        self._buffers = _BufferService(board, self.uploads, is_connected)
        self._gpio = _GpioService()

    def add_to(self, server: Any) -> None:
        """Offer them on a gRPC server."""
        remote_device_pb2_grpc.add_RemoteDeviceServicer_to_server(self._device, server)
        mmio_pb2_grpc.add_MmioServicer_to_server(self._mmio, server)
        buffer_pb2_grpc.add_RemoteBufferServicer_to_server(self._buffers, server)
        gpio_pb2_grpc.add_GpioServicer_to_server(self._gpio, server)


def _abort(context: Any, code: str, message: str) -> NoReturn:
    context.abort(getattr(grpc.StatusCode, code), message)
    raise AssertionError("abort() raises")


class _DeviceService(remote_device_pb2_grpc.RemoteDeviceServicer):  # type: ignore[misc]
    """Files, and with them the FPGA manager."""

    def __init__(self, board: Board, uploads: Uploads) -> None:
        self._board = board
        self._uploads = uploads

    def existsfile(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.ExistsFileResponse(exists=self._board.files.exists(request.file_path))

    def readfile(self, request: Any, context: Any) -> Iterator[Any]:
        content = self._board.files.read(request.file_path)
        if content is None:
            _abort(context, "NOT_FOUND", f"no file {request.file_path}")
        for at in range(0, len(content), _FILE_PIECE):
            yield remote_device_pb2.ReadFileResponse(data=content[at : at + _FILE_PIECE])

    def writefile(self, requests: Iterable[Any], context: Any) -> Any:
        path, parts, size = "", [], 0
        for request in self._uploads.pieces(requests, context):
            path = path or request.file_path
            size += len(request.data)
            if size > _MOST_FILE_BYTES:
                _abort(context, "RESOURCE_EXHAUSTED", f"a file of more than {_MOST_FILE_BYTES >> 20} MiB")
            parts.append(request.data)
        if not path:
            _abort(context, "INVALID_ARGUMENT", "no file path")
        try:
            with self._board.lock:
                self._board.files.write(path, b"".join(parts))
        except Exception as error:  # a real board's kernel log would say it
            _abort(context, "INTERNAL", f"{type(error).__name__}: {error}")
        return remote_device_pb2.WriteFileResponse()

    def set_bitstream_attrs(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.SetBitstreamAttrsResponse(status=True)

    def set_pl_clk(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.SetPlClkResponse(status=True)

    def shutdown(self, request: Any, context: Any) -> Any:
        return remote_device_pb2.ShutdownResponse(status=True)


class _MmioService(mmio_pb2_grpc.MmioServicer):  # type: ignore[misc]
    """Registers at physical addresses."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._ranges: dict[str, tuple[int, int]] = {}
        self._ids = itertools.count()

    def get_mmio(self, request: Any, context: Any) -> Any:
        name = str(next(self._ids))
        self._ranges[name] = (request.base_addr, request.length)
        return mmio_pb2.GetMmioResponse(status=True, mmio_id=name)

    def read(self, request: Any, context: Any) -> Any:
        address = self._address(request, context)
        try:
            return mmio_pb2.ReadResponse(status=True, data=self._board.read(address) & 0xFFFF_FFFF)
        except BusError as error:
            _abort(context, "UNAVAILABLE", str(error))

    def write(self, request: Any, context: Any) -> Any:
        address = self._address(request, context)
        try:
            self._board.write(address, int.from_bytes(request.data[:4], "little"))  # the real server's width
        except BusError as error:
            _abort(context, "UNAVAILABLE", str(error))
        return mmio_pb2.WriteResponse(status=True)

    def _address(self, request: Any, context: Any) -> int:
        if request.mmio_id not in self._ranges:
            _abort(context, "NOT_FOUND", "MMIO object not found")
        base, length = self._ranges[request.mmio_id]
        if request.offset + 4 > length:
            _abort(context, "OUT_OF_RANGE", "offset outside the mapped range")
        return int(base + (request.offset & ~3))


class _BufferService(buffer_pb2_grpc.RemoteBufferServicer):  # type: ignore[misc]
    """Contiguous buffers, seen through the processor's cache; a client that is gone gives its own back."""

    def __init__(self, board: Board, uploads: Uploads, is_connected: Callable[[str], bool]) -> None:
        self._board = board
        self._uploads = uploads
        self._is_connected = is_connected
        self._buffers: dict[str, Buffer] = {}
        self._owners: dict[str, str] = {}  # of the buffers
        self._ids = itertools.count(0x55AA_0000, 0x40)

    def allocate(self, request: Any, context: Any) -> Any:
        with self._board.lock:
            self._free_orphans()
            try:
                buffer = self._board.memory.allocate(request.size)
            except NoMemoryError:  # the real server gives no id then, and no error
                return buffer_pb2.AllocateResponse()
            name = hex(next(self._ids))
            self._buffers[name], self._owners[name] = buffer, context.peer()
        return buffer_pb2.AllocateResponse(buffer_id=name)

    def write(self, requests: Iterable[Any], context: Any) -> Any:
        at = 0
        for request in self._uploads.pieces(requests, context):
            buffer = self._buffers.get(request.buffer_id)
            if buffer is None:
                return buffer_pb2.BufferWriteResponse(msg="Buffer not found.")
            if at + len(request.data) > buffer.size:
                return buffer_pb2.BufferWriteResponse(msg="Buffer overflow.")
            piece = memoryview(request.data)
            buffer.cache[at : at + len(piece)] = piece
            at += len(piece)
        return buffer_pb2.BufferWriteResponse()

    def read(self, request: Any, context: Any) -> Iterator[Any]:
        cache = self._find(request, context).cache
        for at in range(0, cache.size, _BUFFER_PIECE):
            yield buffer_pb2.BufferReadResponse(data=cache[at : at + _BUFFER_PIECE].tobytes())

    def flush(self, request: Any, context: Any) -> Any:
        self._find(request, context).flush()
        return buffer_pb2.FlushResponse()

    def invalidate(self, request: Any, context: Any) -> Any:
        self._find(request, context).invalidate()
        return buffer_pb2.InvalidateResponse()

    def physical_address(self, request: Any, context: Any) -> Any:
        return buffer_pb2.AddressResponse(address=self._find(request, context).address)

    def virtual_address(self, request: Any, context: Any) -> Any:
        return buffer_pb2.AddressResponse(address=0x7F00_0000_0000 + self._find(request, context).address)

    def cacheable(self, request: Any, context: Any) -> Any:
        self._find(request, context)
        return buffer_pb2.CacheableResponse(cacheable=True)

    def freebuffer(self, request: Any, context: Any) -> Any:
        with self._board.lock:
            self._find(request, context)
            self._free(request.buffer_id)
        return buffer_pb2.FreeBufferResponse()

    def _free(self, name: str) -> None:
        self._board.memory.free(self._buffers.pop(name))
        del self._owners[name]

    def _free_orphans(self) -> None:
        """Free the buffers of clients that are gone."""
        gone = {owner for owner in set(self._owners.values()) if not self._is_connected(owner)}
        for name in [name for name, owner in self._owners.items() if owner in gone]:
            self._free(name)

    def _find(self, request: Any, context: Any) -> Buffer:
        buffer = self._buffers.get(request.buffer_id)
        if buffer is None:
            _abort(context, "NOT_FOUND", "Buffer not found.")
        return buffer


class _GpioService(gpio_pb2_grpc.GpioServicer):  # type: ignore[misc]
    """Pins that keep what is written, whichever handle of a pin is used; nothing is wired to them."""

    def __init__(self) -> None:
        self._pins: dict[str, int] = {}  # of the handles
        self._values: dict[int, int] = {}  # of the pins
        self._exported: set[int] = set()
        self._ids = itertools.count()

    def get_gpio(self, request: Any, context: Any) -> Any:
        name = str(next(self._ids))
        self._pins[name] = request.index
        self._exported.add(request.index)
        return gpio_pb2.GetGpioResponse(gpio_id=name)

    def read(self, request: Any, context: Any) -> Any:
        return gpio_pb2.GpioReadResponse(value=self._values.get(self._pin(request, context), 0))

    def write(self, request: Any, context: Any) -> Any:
        self._values[self._pin(request, context)] = request.value
        return gpio_pb2.GpioWriteResponse()

    def unexport(self, request: Any, context: Any) -> Any:
        self._exported.discard(self._pin(request, context))
        return gpio_pb2.GpioUnexportResponse()

    def is_exported(self, request: Any, context: Any) -> Any:
        return gpio_pb2.GpioIsExportedResponse(is_exported=self._pin(request, context) in self._exported)

    def _pin(self, request: Any, context: Any) -> int:
        pin = self._pins.get(request.gpio_id)
        if pin is None:
            _abort(context, "NOT_FOUND", "GPIO not found.")
        return pin

    def get_gpio_base_path(self, request: Any, context: Any) -> Any:
        return gpio_pb2.GetGpioBasePathResponse(base_path="/sys/class/gpio/gpiochip338")

    def get_gpio_npins(self, request: Any, context: Any) -> Any:
        return gpio_pb2.GetGpioNPinsResponse(npins=_GPIO_PINS)
