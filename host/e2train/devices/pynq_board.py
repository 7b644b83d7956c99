# SPDX-License-Identifier: Apache-2.0
"""One connection to a PYNQ board: its overlay and DMAs, contiguous memory, files."""

from __future__ import annotations

import fcntl
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from e2hls.base.cache import cache_dir
from numpy.typing import NDArray

from e2train.config.extras import install_command
from e2train.devices.address import parse_address
from e2train.devices.board_lock import BoardLock
from e2train.devices.deadline import Deadline
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq_buffer import Buffer, buffer_bytes, chains_at
from e2train.devices.pynq_engines import EngineDmas
from e2train.overlay import OverlaySet
from e2train.packing.descriptors import DESCRIPTOR_BYTES, Chain, Pieces, write_chains

__all__ = [
    "LOOK_CALLS",
    "PATIENCE",
    "ROUND_CALLS",
    "WRITE_CALLS",
    "Board",
    "LostError",
]

_T = TypeVar("_T")

_PORT = 7967
_PROGRAM_S = 60.0  # at least, for a bitstream on its way
PATIENCE = 1.03
"""How many times as long as planned a client waits until it looks: each look is a call."""
_LOOKS = 64  # rounds, after one that took longer than planned
_FILE_S = 3.0  # at most, for a file of a sensor or the lock, which are small
_DMA_END = 1 << 32  # of the memory that the DMAs reach
_MEMINFO, _CMA_FREE = "/proc/meminfo", re.compile(rb"CmaFree:\s+(\d+) kB")

ROUND_CALLS = 4
"""Remote calls of chains that run at once: two to send and two to receive."""
LOOK_CALLS = 2
"""And of a look at both channels of an engine that is done, where the time that was planned for it does not
tell; of several engines one more."""
WRITE_CALLS = 2
"""And of bytes that are sent alone."""


class LostError(DeviceError):
    """The board no longer answers."""


class Board:
    """The pynq objects of one connection."""

    def __init__(self, address: str, overlay: OverlaySet, *, lock: BoardLock, deadline: Deadline) -> None:
        """Connect, lock the board and program it; its engines are those of the overlay.

        Raises: BusyError when another program uses it; LostError when nothing answers; DeviceError.
        """
        self.calls = 0  # remote calls; stays 0 on the board itself
        self.where = f"the board at {address}" if address else "this board"
        self._remote = bool(address)
        self._has_answered = False
        self._deadline = deadline
        self._counting = threading.Lock()
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
        self._dmas = EngineDmas(
            self._overlay,
            overlay,
            read=self._read,
            write=self._write,
            deadline=deadline,
            remote=self._remote,
        )
        self._buffers: list[Buffer] = []
        self._to_look = 0  # rounds in which the longest chain is looked at before anything is fetched
        self._sending: Buffer | None = None
        self._receiving: dict[int, Buffer] = {}  # by size
        self.reset()

    @property
    def engines(self) -> int:
        """How many there are."""
        return self._dmas.count

    @property
    def is_remote(self) -> bool:
        """Whether bytes go over a network."""
        return self._remote

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

    def transfer(
        self, words: NDArray[np.uint64], reply_words: int, *, engine: int = 0
    ) -> tuple[NDArray[np.uint64], float]:
        """An engine's reply to one packet within the deadline, and the seconds that moving bytes took."""
        sent, received, begin = words.nbytes, 8 * reply_words, chains_at(self.engines)
        send, receive = self.sending(begin + sent), self.receiving(received)
        at = send.address + begin
        send.memory[begin : begin + sent] = words.view(np.uint8)
        mm2s, s2mm = Pieces.of([(at, sent, True)]), Pieces.of([(receive.address, received, True)])
        with self._deadline.running():
            moving_s = self.run_chains((send, begin + sent), {engine: (mm2s, s2mm)}, receive)
        return receive.memory[:received].view(np.uint64).copy(), moving_s

    def run_chains(
        self,
        send: tuple[Buffer, int],
        pieces: Mapping[int, tuple[Pieces, Pieces]],
        receive: Buffer,
        *,
        kept: Mapping[int, tuple[Chain | None, Chain | None]] | None = None,
        planned_s: Mapping[int, float] = MappingProxyType({}),
        late: Callable[[], set[int]] | None = None,
    ) -> float:
        """Let engines, by their numbers, take and give pieces, MM2S and S2MM, all at once.

        Gives the seconds that moving bytes to and from the board took. Of the buffer that is sent so many
        bytes are in use; descriptors stand at its begin, and behind these, but for the last ones of a chain
        that the board has ``kept``. Nobody looks before the time of the longest chain is over; where
        ``late`` tells by what was received which ones are not done, those alone are looked at.
        """
        buffer, used = send
        memory, base = buffer.memory, buffer.address
        after = base + -(-used // DESCRIPTOR_BYTES) * DESCRIPTOR_BYTES
        listed: list[tuple[Pieces, int, Chain | None]] = []
        for engine, ways in pieces.items():
            for way, each in enumerate(ways):
                there = kept[engine][way] if kept else None
                listed.append((each, base + (2 * engine + way) * DESCRIPTOR_BYTES, there))
        chains = write_chains(memory, listed, after, base=base)
        rows = sum(each.addresses.size - (there.count if there else 0) - 1 for each, _, there in listed)
        after += rows * DESCRIPTOR_BYTES
        both = zip(chains[::2], chains[1::2], strict=True)
        start = self._dmas.ready(buffer, dict(zip(pieces, both, strict=True)))
        begin = time.monotonic()
        self._answered(buffer.array[: after - base].flush, calls=2)
        moving_s = time.monotonic() - begin
        start()
        wait_s = max(planned_s.values(), default=0.0) * (PATIENCE if self._remote else 1.0)
        time.sleep(min(wait_s, max(self._deadline.left_s(), 0.0)))
        if late is None or not self._remote:  # a look costs nothing on the board itself
            self._dmas.wait(pieces)
            return moving_s + self._received(receive)
        if self._to_look:
            self._to_look -= 1
            self._dmas.wait([max(pieces, key=lambda engine: planned_s.get(engine, 0.0))])
        return moving_s + self._collected(receive, late)

    def _collected(self, receive: Buffer, late: Callable[[], set[int]]) -> float:
        """Fetch what engines reply, again where some were not done; gives the seconds that moving it took."""
        moving_s = self._received(receive)
        engines = late()
        if engines:
            self._to_look = _LOOKS
            self._dmas.wait(sorted(engines))
            moving_s += self._received(receive)
        return moving_s

    def _received(self, receive: Buffer) -> float:
        """Fetch a buffer; gives the seconds that it took."""
        begin = time.monotonic()
        self.invalidate(receive)
        return time.monotonic() - begin

    def reset(self) -> None:
        """Reset all DMAs and engines."""
        with self._deadline.running():
            self._dmas.reset()

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
                self._answered(self._buffers.pop().array.freebuffer)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Forget the buffers of a board that is gone."""
        for buffer in self._buffers:
            buffer.array.freed = True  # else its destructor calls the board
        self._buffers.clear()

    def sending(self, nbytes: int) -> Buffer:
        """The buffer of what goes to the board; where it has to grow it is another one."""
        if self._sending is None or self._sending.memory.size < nbytes:
            if self._sending is not None:
                self.free(self._sending)
                self._sending = None
            self._sending = self.allocate(buffer_bytes(nbytes))
        return self._sending

    def receiving(self, nbytes: int) -> Buffer:
        """A buffer for so many bytes from the board, the same one for each size: it is read as a whole."""
        room = buffer_bytes(nbytes)
        if room not in self._receiving:
            self._receiving[room] = self.allocate(room)
        return self._receiving[room]

    def allocate(self, nbytes: int) -> Buffer:
        """Contiguous memory.

        Raises: DeviceError when the board has none left.
        """
        array = self._answered(lambda: self._pynq.allocate((nbytes,), np.uint8, target=self.device), calls=1)
        if not getattr(array, "buffer_id", True):  # all that a remote board says
            array.freed = True  # there is nothing for its destructor to give back
            raise DeviceError(
                f"the board has no contiguous memory left for a buffer of {-(-nbytes >> 10)} KiB; "
                "free what other programs hold, or train with a smaller --batch"
            )
        buffer = Buffer(array, int(self._answered(lambda: array.physical_address, calls=1)))
        self._buffers.append(buffer)
        if buffer.address + nbytes > _DMA_END:
            self.free(buffer)
            raise DeviceError(
                f"the board gives memory at {buffer.address:#x}, and the DMAs reach the first 4 GiB; put its "
                "contiguous memory there, with bootargs such as cma=256M@0-2G"
            )
        return buffer

    def free(self, buffer: Buffer) -> None:
        """Give memory back; a buffer with which that has failed before is not the board's any more."""
        if buffer not in self._buffers:
            return
        self._buffers.remove(buffer)
        self._answered(buffer.array.freebuffer, calls=1)

    def flush(self, buffer: Buffer, nbytes: int) -> None:
        """Bring the first so many bytes of a buffer to the board's memory."""
        self._answered(buffer.array[:nbytes].flush, calls=2)

    def invalidate(self, buffer: Buffer) -> None:
        """Fetch a buffer's bytes from the board's memory."""
        self._answered(buffer.array.invalidate, calls=2)

    def free_bytes(self) -> int | None:
        """Contiguous memory that is left, in however many parts; None where the board does not tell."""
        found = _CMA_FREE.search(self.read_file(_MEMINFO) or b"")
        return int(found[1]) << 10 if found else None

    def _read(self, mmio: Any, register: int) -> int:
        return int(self._answered(lambda: mmio.read(register), calls=1))

    def _write(self, mmio: Any, register: int, value: int) -> None:
        # NumPy's scalars crash pynq's remote registers.
        self._answered(lambda: mmio.write(register, int(value)), calls=1)

    def _answered(self, call: Callable[[], _T], *, calls: int = 0) -> _T:
        """The result of something that pynq does.

        Raises: LostError, DeviceError.
        """
        if calls and self._remote:  # a meter's thread comes here too, with none
            with self._counting:
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
