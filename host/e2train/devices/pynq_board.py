# SPDX-License-Identifier: Apache-2.0
"""One connection to a PYNQ board: its overlay, the DMA's registers, buffers, files."""

from __future__ import annotations

import fcntl
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from e2hls.base.cache import cache_dir
from numpy.typing import NDArray

from e2train.config.extras import install_command
from e2train.devices.address import parse_address
from e2train.devices.board_lock import BoardLock
from e2train.devices.deadline import Deadline
from e2train.devices.protocol import DeviceError
from e2train.overlay import OverlaySet

__all__ = ["Board", "LostError"]

_T = TypeVar("_T")

_PORT = 7967
_PROGRAM_S = 60.0  # at least, for a bitstream on its way
_FILE_S = 3.0  # at most, for a file of a sensor or the lock, which are small
_FIRST_BUFFER = 8 << 10  # smaller ones share pages, which PYNQ.remote flushes wrongly
_LARGEST_BUFFER = 48 << 20  # above it PYNQ.remote is slow

# AXI DMA, direct register mode (PG021), each direction's registers from its own base on.
_MM2S, _S2MM = 0x00, 0x30
_CONTROL, _STATUS, _ADDRESS, _ADDRESS_HIGH, _LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28
_RUN, _RESET = 1 << 0, 1 << 2
_HALTED, _IDLE = 1 << 0, 1 << 1
_ERRORS = {
    1 << 4: "DMAIntErr (a length of 0, or a packet longer than its buffer)",
    1 << 5: "DMASlvErr (the memory refused an access)",
    1 << 6: "DMADecErr (no memory at an address)",
}


class LostError(DeviceError):
    """The board no longer answers."""


class Board:
    """The pynq objects of one connection."""

    def __init__(self, address: str, overlay: OverlaySet, *, lock: BoardLock, deadline: Deadline) -> None:
        """Connect, lock the board and program it.

        Raises: BusyError when another program uses it; LostError when nothing answers; DeviceError.
        """
        self.calls = 0  # remote calls; stays 0 on the board itself
        self.where = f"the board at {address}" if address else "this board"
        self._remote = bool(address)
        self._has_answered = False
        self._deadline = deadline
        try:
            import pynq
        except ImportError as error:
            raise DeviceError(f"device pynq needs pynq: {error}; {install_command('pynq')}") from error
        self._pynq = pynq
        with deadline.running():
            self.device = self._answered(lambda: _device(pynq, address, deadline))
        lock.acquire(self)
        if self._remote:
            _set_clocks(pynq, self.device)
        folder = cache_dir() / "overlays"
        bit = overlay.unpack(folder)
        with _locked(folder / "lock"), deadline.running(max(_PROGRAM_S, deadline.whole_s)):
            self._overlay = self._programmed(bit)
        dma = getattr(self._overlay, "axi_dma_0", None)
        if dma is None:
            raise DeviceError(f"the overlay {overlay.name} has no axi_dma_0")
        self._mmio = dma.mmio
        self._buffers: dict[tuple[int, int], _Buffer] = {}
        self._addressed: dict[int, int] = {}
        self.reset()

    def _programmed(self, bit: Path) -> Any:
        """The overlay of a bitstream, which the board then runs."""
        try:
            return self._answered(lambda: self._pynq.Overlay(str(bit), device=self.device))
        except LostError:
            raise
        except DeviceError as error:
            # The client uploads no file whose name is there already, whatever it holds.
            raise DeviceError(
                f"the board cannot be programmed with {bit.name}: {error}; if an old "
                f"/lib/firmware/{bit.stem}.bin lies on it, delete that file"
            ) from error

    def transfer(self, words: NDArray[np.uint64], reply_words: int) -> tuple[NDArray[np.uint64], float]:
        """Reply to one packet, and the seconds that moving the bytes took, within the deadline."""
        with self._deadline.running():
            return self._transferred(words, reply_words)

    def _transferred(self, words: NDArray[np.uint64], reply_words: int) -> tuple[NDArray[np.uint64], float]:
        send, receive = self._buffer(_MM2S, words.nbytes), self._buffer(_S2MM, 8 * reply_words)
        begin = time.monotonic()
        send.array[: words.size] = words
        self._answered(send.array.flush, calls=2)
        moving_s = time.monotonic() - begin
        self._start(_S2MM, receive.address, 8 * reply_words)
        self._start(_MM2S, send.address, words.nbytes)
        self._wait()
        size = self._read(_S2MM + _LENGTH) // 8
        begin = time.monotonic()
        self._answered(receive.array.invalidate, calls=2)
        reply = np.array(receive.array[:size], np.uint64)
        return reply, moving_s + time.monotonic() - begin

    def reset(self) -> None:
        """Reset the DMA and the engine, and set both channels running."""
        with self._deadline.running():
            self._write(_MM2S + _CONTROL, _RESET)
            end = time.monotonic() + 1.0
            while self._read(_MM2S + _CONTROL) & _RESET:
                if time.monotonic() > end:
                    raise DeviceError("the DMA does not come out of its reset; program the board again")
            for channel in (_MM2S, _S2MM):
                self._write(channel + _CONTROL, _RUN)
        self._addressed.clear()

    def clock_mhz(self) -> float:
        """PL clock 0."""
        clocks = self._pynq.Clocks
        return float(self._answered(lambda: clocks.fclk0_mhz))

    def read_file(self, path: str) -> bytes | None:
        """A file on the board; None where there is none."""
        if not self._remote:
            file = Path(path)
            return file.read_bytes() if file.is_file() else None
        # Not counted among the calls: meter and lock work beside the transfers, in threads of their own.
        with self._deadline.running(_FILE_S):
            if not self._answered(lambda: self.device.exists_file(path)).exists:
                return None
            return bytes(self._answered(lambda: self.device.read_file(path)))

    def write_file(self, path: str, content: bytes) -> None:
        """Write a file on the board."""
        with self._deadline.running(_FILE_S):
            write = (
                self.device.write_file if self._remote else lambda name, data: Path(name).write_bytes(data)
            )
            self._answered(lambda: write(path, content))

    def close(self) -> None:
        """End what is under way, and give the buffers back.

        Raises: LostError, after which all that the board held is forgotten.
        """
        try:
            self.reset()  # else the DMA may write to memory that is somebody else's by then
            while self._buffers:
                self._answered(self._buffers.popitem()[1].array.freebuffer)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Forget the buffers of a board that is gone."""
        for buffer in self._buffers.values():
            buffer.array.freed = True  # else its destructor calls the board
        self._buffers.clear()

    def _buffer(self, channel: int, size: int) -> _Buffer:
        """A whole buffer of at least ``size`` bytes, the same one for each size of a channel."""
        if size > _LARGEST_BUFFER:
            raise DeviceError(f"a transfer of {size} bytes is more than the {_LARGEST_BUFFER} of a buffer")
        room = _FIRST_BUFFER
        while room < size:
            room = room * 3 // 2 if room & (room - 1) == 0 else room // 3 * 4  # 8, 12, 16, 24, ... KiB
        key = (channel, room)
        if key not in self._buffers:
            shape = (room // 8,)
            array = self._answered(lambda: self._pynq.allocate(shape, np.uint64, target=self.device), calls=1)
            if not getattr(array, "buffer_id", True):  # all that a remote board says
                array.freed = True  # there is nothing for its destructor to give back
                raise DeviceError(
                    f"the board has no contiguous memory left for a buffer of {room >> 10} KiB; "
                    "free what other programs hold, or train with a smaller --batch"
                )
            address = int(self._answered(lambda: array.physical_address, calls=1))
            self._buffers[key] = _Buffer(array, address)
        return self._buffers[key]

    def _start(self, channel: int, address: int, size: int) -> None:
        if self._addressed.get(channel) != address:
            self._write(channel + _ADDRESS, address & 0xFFFF_FFFF)
            self._write(channel + _ADDRESS_HIGH, address >> 32)
            self._addressed[channel] = address
        self._write(channel + _LENGTH, size)

    def _wait(self) -> None:
        """Until the reply has arrived."""
        pause_s = 0.0
        while True:
            states = {way: self._read(way + _STATUS) for way in (_S2MM, _MM2S)}
            for way, state in states.items():
                for bit, meaning in _ERRORS.items():
                    if state & bit:
                        raise DeviceError(f"the DMA's {_WAYS[way]} channel reports {meaning}")
                if state & _HALTED:
                    raise DeviceError(f"the DMA's {_WAYS[way]} channel has stopped")
            if states[_S2MM] & _IDLE:
                return
            if self._deadline.left_s() <= 0:
                raise DeviceError(f"no whole reply within {self._deadline.whole_s:g} s")
            time.sleep(pause_s)
            pause_s = min(0.02, pause_s + 0.0005)

    def _read(self, register: int) -> int:
        return int(self._answered(lambda: self._mmio.read(register), calls=1))

    def _write(self, register: int, value: int) -> None:
        # NumPy's scalars crash pynq's remote registers.
        self._answered(lambda: self._mmio.write(register, int(value)), calls=1)

    def _answered(self, call: Callable[[], _T], *, calls: int = 0) -> _T:
        """The result of something that pynq does.

        Raises: LostError, DeviceError.
        """
        if calls and self._remote:  # a meter's thread comes here too, with none
            self.calls += calls
        try:
            answer = call()
        except DeviceError:
            raise
        except Exception as error:
            if _is_lost(error):
                raise LostError(self._silence(error)) from error
            raise DeviceError(f"pynq on {self.where}: {_short(error)}") from error
        self._has_answered = True
        return answer

    def _silence(self, error: Exception) -> str:
        if self._has_answered:
            return f"{self.where} no longer answers ({_short(error)})"
        return f"{self.where} does not answer ({_short(error)}); look at the address and at the board"


class _Buffer:
    """A pynq buffer and its physical address, which costs a call to ask for."""

    __slots__ = ("address", "array")

    def __init__(self, array: Any, address: int) -> None:
        self.array = array
        self.address = address


_WAYS = {_MM2S: "sending", _S2MM: "receiving"}


def _device(pynq: Any, address: str, deadline: Deadline) -> Any:
    """The pynq device at an address, or the board that this runs on."""
    if not address:
        if not pynq.Device.devices:
            raise DeviceError("pynq finds no board here; give a PYNQ.remote board as --device pynq:HOST")
        return pynq.Device.active_device
    from e2train.devices.remote_board import RemoteBoard

    host, port = parse_address("pynq", address, port=_PORT)
    try:
        socket.getaddrinfo(host, port)
    except (OSError, UnicodeError) as error:
        raise DeviceError(f"no board at {address}: there is no host {host!r} ({error})") from error
    try:
        device = RemoteBoard(host, port, deadline)
    except RuntimeError as error:
        if "Failed to connect" in str(error):
            raise LostError(
                f"no board answers at {host}:{port}; look at the address and at the board"
            ) from error
        raise
    pynq.Device.active_device = device
    return device


def _set_clocks(pynq: Any, device: Any) -> None:
    """Turn pynq's clocks, of which there is one set for the process, to a board: overlays set them."""
    if hasattr(pynq.Clocks, "_real_instance"):  # else it keeps to the first board it has seen
        del pynq.Clocks._real_instance
    pynq.Clocks.set_device(device)


def _is_lost(error: Exception) -> bool:
    """Whether an error of pynq means that the board is gone, or no longer the one that it was."""
    code = getattr(error, "code", None)
    name = getattr(code() if callable(code) else None, "name", "")
    gone = ("UNAVAILABLE", "CANCELLED", "NOT_FOUND", "DEADLINE_EXCEEDED")
    return name in gone


def _short(error: Exception) -> str:
    details = getattr(error, "details", None)
    text = details() if callable(details) else str(error)
    return " ".join(str(text).split())[:200] or type(error).__name__


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: pynq writes state files beside its own code."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
