# SPDX-License-Identifier: Apache-2.0
"""The engine on a PYNQ board: native, or from a PC through PYNQ.remote; the same code for both.

What a transfer costs remotely is the number of calls, not of bytes: buffers are kept whole and used again,
their addresses stay in the DMA's registers, and a transfer takes seven calls and its polls.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from e2hls.cache import cache_dir
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.protocol import Closing, DeviceError, DeviceLostError, Transfer
from e2train.numerics.frame import MODE_IDS, TRAILER_WORDS, Header
from e2train.overlay import OverlaySet, read_overlay
from e2train.packing import Frame, ReplyError, join_transfer, split_replies

__all__ = ["PynqDevice"]

_T = TypeVar("_T")

_PORT = 7967
_FIRST_BUFFER = 8 << 10  # smaller ones share pages, which PYNQ.remote flushes wrongly
_LARGEST_BUFFER = 48 << 20  # above it PYNQ.remote is slow
_CLOCK_TOLERANCE = 0.01

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


class PynqDevice(Closing):
    """A board with the engine's overlay.

    A transfer that fails leaves the DMA, and with it the engine, reset, or the connection made anew; the
    caller may try it again.
    """

    name = "pynq"
    parallel = 1
    tries = 3

    def __init__(
        self, config: EngineConfig, *, overlay: Path, address: str = "", deadline_s: float = 60.0
    ) -> None:
        """``address`` HOST or HOST:PORT of a PYNQ.remote board; empty on the board itself.

        Raises: OverlayError for the archive; DeviceError when the board or what is on it is not as expected.
        """
        self.config = config
        self._overlay = read_overlay(overlay)
        self._address = address
        self._deadline_s = deadline_s
        self._board: _Board | None = None
        self._check_manifest(overlay)
        self._open()

    def transfer(self, words: NDArray[np.uint64], *, reply_words: int) -> Transfer:
        """Send one packet through the DMA and wait for its reply.

        Raises: DeviceError when the DMA reports an error, or hangs, or the connection broke; the board is
            ready again then. DeviceLostError when it is not.
        """
        board = self._opened()
        begin, calls = time.monotonic(), board.calls
        try:
            reply, moving_s = board.transfer(words, reply_words, self._deadline_s)
        except _LostError as error:
            self._reopen(error)
            raise DeviceError(f"{error}; connected again") from error
        except DeviceError:
            board.reset()
            raise
        return Transfer(
            reply=reply,
            remote_calls=board.calls - calls,
            device_s=time.monotonic() - begin,
            moving_s=moving_s,
        )

    def close(self) -> None:
        """Give the board's buffers back."""
        if self._board is not None:
            self._board.close()
        self._board = None

    @property
    def clock_mhz(self) -> float:
        """The engine's clock, read back."""
        return self._opened().clock_mhz()

    @property
    def board_name(self) -> str:
        """What the board calls itself."""
        return str(self._opened().device.name)

    @property
    def overlay(self) -> OverlaySet:
        """What the board is programmed with."""
        return self._overlay

    def read_file(self, path: str) -> bytes | None:
        """A file of the board, such as a sensor's; None where there is none."""
        return self._opened().read_file(path)

    def _opened(self) -> _Board:
        if self._board is None:
            raise DeviceError("device pynq is closed")
        return self._board

    def _check_manifest(self, path: Path) -> None:
        manifest = self._overlay.manifest
        if (manifest.config, manifest.config_hash) != (self.config.name, self.config.hash32):
            raise DeviceError(
                f"{path} holds the configuration {manifest.config} ({manifest.config_hash:#010x}), the host "
                f"expects {self.config.name} ({self.config.hash32:#010x}); build it anew or choose --board"
            )

    def _open(self) -> None:
        self._board = _Board(self._address, self._overlay)
        try:
            self._identify()
            self._check_clock()
        except DeviceError:
            self.close()
            raise

    def _reopen(self, lost: _LostError) -> None:
        """Connect again within the deadline."""
        if self._board is not None:
            self._board.abandon()
        end = time.monotonic() + self._deadline_s
        while True:
            try:
                self._open()
                return
            except DeviceError as error:
                if time.monotonic() >= end:
                    raise DeviceLostError(
                        f"{lost}; not back within {self._deadline_s:g} s: {error}"
                    ) from lost
                time.sleep(min(0.5, self._deadline_s / 10))

    def _identify(self) -> None:
        """Ask the engine what it is."""
        cfg = self.config
        header = Header(mode=MODE_IDS["identify"], ic_lanes=cfg.ic_lanes, oc_lanes=cfg.oc_lanes)
        empty = np.zeros(0, np.uint64)
        words = join_transfer([Frame(header=header, x=empty, w=empty)])
        transfer = self._opened().transfer(words, header.result_words + TRAILER_WORDS, self._deadline_s)
        try:
            reply = split_replies(transfer[0], [header])[0]
        except ReplyError as error:
            raise DeviceError(f"the engine on the board does not identify itself: {error}") from error
        lanes, depth = (int(word) for word in reply.results)
        told = (lanes & 0xFFFF, lanes >> 16 & 0xFFFF, lanes >> 32, depth & 0xFFFFFFFF, depth >> 32)
        wanted = (cfg.ic_lanes, cfg.oc_lanes, cfg.x_depth, cfg.w_depth, cfg.hash32)
        if told != wanted:
            raise DeviceError(
                f"the board's engine is not {cfg.name}: lanes, depths and hash are {told}, must be {wanted}"
            )

    def _check_clock(self) -> None:
        wanted, clock = self._overlay.manifest.clock_mhz, self.clock_mhz
        if abs(clock / wanted - 1) > _CLOCK_TOLERANCE:
            raise DeviceError(
                f"the board runs the engine at {clock:g} MHz, the overlay is for {wanted:g} MHz"
            )


class _LostError(DeviceError):
    """The board no longer answers."""


class _Board:
    """The pynq objects of one connection."""

    def __init__(self, address: str, overlay: OverlaySet) -> None:
        self.calls = 0  # remote calls; stays 0 on the board itself
        self._remote = bool(address)
        try:
            import pynq
        except ImportError as error:
            raise DeviceError(f"device pynq needs pynq: {error}; pip install 'e2train[remote]'") from error
        self._pynq = pynq
        self.device = self._answered(lambda: _device(pynq, address))
        if self._remote:
            _set_clocks(pynq, self.device)
        folder = cache_dir() / "overlays"
        bit = overlay.unpack(folder)
        with _locked(folder / "lock"):
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
        except _LostError:
            raise
        except DeviceError as error:
            # The client uploads no file whose name is there already, whatever it holds.
            raise DeviceError(
                f"the board cannot be programmed with {bit.name}: {error}; if an old "
                f"/lib/firmware/{bit.stem}.bin lies on it, delete that file"
            ) from error

    def transfer(
        self, words: NDArray[np.uint64], reply_words: int, deadline_s: float
    ) -> tuple[NDArray[np.uint64], float]:
        """Reply to one packet, and the seconds that moving the bytes took."""
        send, receive = self._buffer(_MM2S, words.nbytes), self._buffer(_S2MM, 8 * reply_words)
        begin = time.monotonic()
        send.array[: words.size] = words
        self._answered(send.array.flush, calls=2)
        moving_s = time.monotonic() - begin
        self._start(_S2MM, receive.address, 8 * reply_words)
        self._start(_MM2S, send.address, words.nbytes)
        self._wait(deadline_s)
        size = self._read(_S2MM + _LENGTH) // 8
        begin = time.monotonic()
        self._answered(receive.array.invalidate, calls=2)
        reply = np.array(receive.array[:size], np.uint64)
        return reply, moving_s + time.monotonic() - begin

    def reset(self) -> None:
        """Reset the DMA and the engine, and set both channels running."""
        self._write(_MM2S + _CONTROL, _RESET)
        end = time.monotonic() + 1.0
        while self._read(_MM2S + _CONTROL) & _RESET:
            if time.monotonic() > end:
                raise DeviceError("the DMA does not come out of its reset; program the board anew")
        for channel in (_MM2S, _S2MM):
            self._write(channel + _CONTROL, _RUN)
        self._addressed.clear()

    def clock_mhz(self) -> float:
        """PL clock 0."""
        clocks = self._pynq.Clocks
        return float(self._answered(lambda: clocks.fclk0_mhz))

    def read_file(self, path: str) -> bytes | None:
        """A file on the board."""
        if not self._remote:
            file = Path(path)
            return file.read_bytes() if file.is_file() else None
        # Not counted among the calls: a meter reads beside the transfers, in a thread of its own.
        if not self._answered(lambda: self.device.exists_file(path)).exists:
            return None
        return bytes(self._answered(lambda: self.device.read_file(path)))

    def close(self) -> None:
        """Give the buffers back."""
        for buffer in self._buffers.values():
            buffer.array.freebuffer()
        self._buffers.clear()

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

    def _wait(self, deadline_s: float) -> None:
        """Until the reply has arrived."""
        end, pause_s = time.monotonic() + deadline_s, 0.0
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
            if time.monotonic() > end:
                raise DeviceError(f"no whole reply within {deadline_s:g} s")
            time.sleep(pause_s)
            pause_s = min(0.02, pause_s + 0.0005)

    def _read(self, register: int) -> int:
        return int(self._answered(lambda: self._mmio.read(register), calls=1))

    def _write(self, register: int, value: int) -> None:
        # NumPy's scalars crash pynq's remote registers.
        self._answered(lambda: self._mmio.write(register, int(value)), calls=1)

    def _answered(self, call: Callable[[], _T], *, calls: int = 0) -> _T:
        """The result of something that pynq does.

        Raises: _LostError, DeviceError.
        """
        if calls and self._remote:  # a meter's thread comes here too, with none
            self.calls += calls
        try:
            return call()
        except DeviceError:
            raise
        except Exception as error:
            if _is_lost(error):
                raise _LostError(f"the board no longer answers ({_short(error)})") from error
            raise DeviceError(f"pynq: {_short(error)}") from error


class _Buffer:
    """A pynq buffer and its physical address, which costs a call to ask for."""

    __slots__ = ("address", "array")

    def __init__(self, array: Any, address: int) -> None:
        self.array = array
        self.address = address


_WAYS = {_MM2S: "sending", _S2MM: "receiving"}


def _device(pynq: Any, address: str) -> Any:
    """The pynq device at an address, or the board that this runs on."""
    if not address:
        if not pynq.Device.devices:
            raise DeviceError("pynq finds no board here; give a PYNQ.remote board as --device pynq:HOST")
        return pynq.Device.active_device
    from pynq.pl_server.remote_device import RemoteDevice

    host, _, port = address.partition(":")
    if port and not port.isdecimal():
        raise DeviceError(f"device pynq:{address}: the port must be a number")
    device = RemoteDevice(0, host, int(port or _PORT))
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
    return name in gone or "Failed to connect" in str(error)


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
