# SPDX-License-Identifier: Apache-2.0
"""The simulated SoC: a kernel behind an AXI DMA and DDR, driven through the DMA's registers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from e2hls.simulation.toolchain import SimulationError
from numpy.typing import NDArray

__all__ = ["DmaRegister", "MemoryTiming", "Soc", "TransferStats", "Until"]

Words = NDArray[np.uint64]

_WORD_BYTES = 8
_PAGE_BYTES = 4096
_MAX_LENGTH_BYTES = (1 << 26) - 1
_RUN = 1
_RESET = 1 << 2
_IOC = 1 << 12
_HALTED, _SG_INCLUDED = 1, 1 << 3
_ERRORS = {
    1 << 4: "DMAIntErr",
    1 << 5: "DMASlvErr",
    1 << 6: "DMADecErr",
    1 << 8: "SGIntErr",
    1 << 9: "SGSlvErr",
    1 << 10: "SGDecErr",
}
_MEMORY_BASE = 0x1000_0000
_SLICE_CYCLES = 200_000  # between two looks at Ctrl-C and at progress


class DmaRegister(IntEnum):
    """Byte offsets of the DMA's registers (Xilinx PG021).

    The pointers to descriptors are those of scatter-gather mode, addresses and lengths of direct register
    mode.
    """

    MM2S_DMACR = 0x00
    MM2S_DMASR = 0x04
    MM2S_CURDESC = 0x08
    MM2S_TAILDESC = 0x10
    MM2S_SA = 0x18
    MM2S_SA_MSB = 0x1C
    MM2S_LENGTH = 0x28
    S2MM_DMACR = 0x30
    S2MM_DMASR = 0x34
    S2MM_CURDESC = 0x38
    S2MM_TAILDESC = 0x40
    S2MM_DA = 0x48
    S2MM_DA_MSB = 0x4C
    S2MM_LENGTH = 0x58


class Until(IntEnum):
    """What ``Soc.run`` waits for; ``IDLE`` is both channels at rest, or an error in one."""

    DEADLINE = 0
    INTERRUPT = 1
    IDLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryTiming:
    """The DDR model's figures, in clock cycles; ``sim/soc/ddr.hpp`` says what they mean."""

    read_latency: int = 32
    write_latency: int = 16
    burst_beats: int = 16
    outstanding: int = 4
    bytes_per_cycle: int = 16

    def __post_init__(self) -> None:
        if min(self.read_latency, self.write_latency) < 0:
            raise ValueError(
                f"latencies must be at least 0 cycles, not {self.read_latency}, {self.write_latency}"
            )
        for name, most in (("burst_beats", 256), ("outstanding", 16), ("bytes_per_cycle", 64)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be in 1..{most}, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferStats:
    """Cycle stamps and beats of the latest transfer or chain, on the kernel's two streams."""

    first_in: int
    last_in: int
    words_in: int
    first_out: int
    last_out: int
    words_out: int

    @property
    def cycles(self) -> int:
        """From the first word in to the last word out, both included."""
        return self.last_out - self.first_in + 1


class _Timing(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in MemoryTiming.__slots__)


class _Config(ctypes.Structure):
    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("memory_base", ctypes.c_uint64),
        ("memory_bytes", ctypes.c_uint64),
        ("timing", _Timing),
        ("scatter_gather", ctypes.c_uint32),
        ("reset_cycles", ctypes.c_uint32),
        ("seed", ctypes.c_uint32),
    )


class _Stats(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cycles", "first_in", "last_in", "words_in", "first_out", "last_out", "words_out")
    )


class Soc:
    """One simulated SoC; several may live in one process, each used by one thread at a time."""

    def __init__(
        self,
        library: Path,
        *,
        memory_bytes: int = 64 << 20,
        memory: NDArray[np.uint8] | None = None,
        memory_base: int = _MEMORY_BASE,
        timing: MemoryTiming | None = None,
        scatter_gather: bool = False,
        reset_cycles: int = 16,
        seed: int = 1,
    ) -> None:
        """With ``scatter_gather`` the DMA takes chains of descriptors in place of single transfers.

        Raises: SimulationError when the library cannot be loaded, or its kernel stops at once."""
        self._api = _load(library)
        timing = timing or MemoryTiming()
        values = _Timing(*(getattr(timing, name) for name in MemoryTiming.__slots__))
        self._memory = np.zeros(memory_bytes, np.uint8) if memory is None else memory
        at, size = self._memory.ctypes.data, self._memory.size
        config = _Config(at, memory_base, size, values, scatter_gather, reset_cycles, seed)
        self._handle: int | None = self._api.soc_open(ctypes.byref(config))
        if not self._handle:
            raise SimulationError(
                f"cannot open a SoC from {library}: its kernel stops during the first reset"
            )
        self.memory_base = memory_base

    def close(self) -> None:
        """End the simulation."""
        if self._handle:
            self._api.soc_close(self._handle)
        self._handle = None

    def __enter__(self) -> Soc:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The DDR, as bytes, from ``memory_base`` on."""
        if self._handle is None:
            raise SimulationError("the SoC is closed")
        return self._memory

    @property
    def cycles(self) -> int:
        """Clock cycles since the SoC was opened."""
        return int(self._api.soc_cycles(self._open_handle()))

    @property
    def stats(self) -> TransferStats:
        """Stamps and beats of the latest transfer or chain of each direction."""
        raw = _Stats()
        self._api.soc_stats(self._open_handle(), ctypes.byref(raw))
        return TransferStats(**{name: int(getattr(raw, name)) for name in TransferStats.__slots__})

    def read(self, register: int) -> int:
        """Read a 32-bit DMA register."""
        return int(self._api.soc_reg_read(self._open_handle(), register))

    def write(self, register: int, value: int) -> None:
        """Write a 32-bit DMA register."""
        self._api.soc_reg_write(self._open_handle(), register, value)

    def control_read(self, register: int) -> int:
        """Read a 32-bit register of the kernel itself, which takes two clock cycles; 0 where it has none.

        Raises: SimulationError when an assertion in the kernel failed.
        """
        value = int(self._api.soc_control_read(self._open_handle(), register))
        self.run(0)
        return value

    def control_write(self, register: int, value: int) -> None:
        """Write a 32-bit register of the kernel itself; see ``control_read``."""
        self._api.soc_control_write(self._open_handle(), register, value)
        self.run(0)

    def fail_next(self, direction: Literal["mm2s", "s2mm"], status_bit: int) -> None:
        """Let the next transfer of a direction end with an error bit of its status register."""
        self._api.soc_fail_next(self._open_handle(), int(direction == "s2mm"), status_bit)

    def record(self, path: Path | None) -> None:
        """Count how often the kernel's signals switch into a SAIF file, from now on; None ends it.

        Raises: SimulationError when the library was not built to, or the file cannot be written.
        """
        if not self._api.soc_record(self._open_handle(), None if path is None else str(path).encode()):
            raise SimulationError(f"cannot record to {path}; build the SoC with activity=True")

    def run(self, max_cycles: int, *, until: Until = Until.DEADLINE) -> bool:
        """Clock the SoC; False when ``until`` did not happen within ``max_cycles``.

        Raises: SimulationError when an assertion in the kernel failed.
        """
        outcome = self._api.soc_run(self._open_handle(), max_cycles, int(until))
        if outcome == _STOPPED:
            raise SimulationError(f"the kernel stopped: {self._api.soc_error(self._handle).decode()}")
        return bool(outcome == _REACHED)

    def reset(self) -> None:
        """Reset the DMA, and with it the kernel, as a driver does after an error."""
        self.write(DmaRegister.MM2S_DMACR, _RESET)
        while self.read(DmaRegister.MM2S_DMACR) & _RESET:
            self.run(8)

    def dma_transfer(
        self, words: Words, *, reply_words: int, stall_cycles: int = 2_000_000
    ) -> tuple[Words, TransferStats]:
        """Send ``words`` as one packet and receive one of at most ``reply_words``, as a driver would.

        Raises: SimulationError when a channel reports an error, or after ``stall_cycles`` in which no
            word moves; the SoC then needs a reset.
        """
        sent, room = words.nbytes, reply_words * _WORD_BYTES
        reply_at = -(-sent // _PAGE_BYTES) * _PAGE_BYTES
        self._check_sizes(words, room, reply_at + room)
        self.memory[:sent] = words.view(np.uint8)
        for control in (DmaRegister.MM2S_DMACR, DmaRegister.S2MM_DMACR):
            self.write(control, _RUN)
        for status in (DmaRegister.MM2S_DMASR, DmaRegister.S2MM_DMASR):
            self.write(status, _IOC)
        self._start(DmaRegister.S2MM_DA, DmaRegister.S2MM_LENGTH, self.memory_base + reply_at, room)
        self._start(DmaRegister.MM2S_SA, DmaRegister.MM2S_LENGTH, self.memory_base, sent)
        self._wait(stall_cycles)
        received = self.read(DmaRegister.S2MM_LENGTH)
        reply = self.memory[reply_at : reply_at + received].view(np.uint64).copy()
        return reply, self.stats

    def run_chain(
        self, *, mm2s: tuple[int, int], s2mm: tuple[int, int], stall_cycles: int = 2_000_000
    ) -> TransferStats:
        """Run a chain of descriptors in each direction, given by the addresses of its first and last one.

        What the descriptors say stands in ``memory``; their status says what has come.
        Raises: SimulationError as ``dma_transfer``.
        """
        for control, pointers in ((DmaRegister.S2MM_DMACR, s2mm), (DmaRegister.MM2S_DMACR, mm2s)):
            self._start_chain(control, *pointers)
        self._wait(stall_cycles)
        return self.stats

    def _start_chain(self, control: DmaRegister, first: int, last: int) -> None:
        status, current, tail = control + 0x04, control + 0x08, control + 0x10
        self.write(control, 0)
        if not self.read(status) & _HALTED:
            raise SimulationError(f"the channel at {control:#x} does not halt; reset it")
        self._write_pointer(current, first)
        self.write(control, _RUN)
        self.write(status, _IOC)
        self._write_pointer(tail, last)

    def _write_pointer(self, register: int, address: int) -> None:
        self.write(register + 4, address >> 32)
        self.write(register, address & 0xFFFF_FFFF)  # the low half of the tail starts the channel

    def _start(
        self, address_register: DmaRegister, length_register: DmaRegister, address: int, size: int
    ) -> None:
        self.write(address_register, address & 0xFFFF_FFFF)
        self.write(address_register + 4, address >> 32)
        self.write(length_register, size)

    def _check_sizes(self, words: Words, room: int, needed: int) -> None:
        if words.dtype != np.uint64 or words.ndim != 1 or not words.flags.c_contiguous:
            raise ValueError(f"words must be a contiguous uint64 vector, not {words.dtype}{words.shape}")
        if not (0 < words.nbytes <= _MAX_LENGTH_BYTES and 0 < room <= _MAX_LENGTH_BYTES):
            raise ValueError(
                f"the DMA moves 1..{_MAX_LENGTH_BYTES} bytes, not {words.nbytes} out and {room} back"
            )
        if needed > self.memory.size:
            raise SimulationError(
                f"the transfer needs {needed} bytes, the SoC has {self.memory.size}: "
                "open it with more memory_bytes"
            )

    def _wait(self, stall_cycles: int) -> None:
        moved, quiet = -1, 0
        while not self.run(min(_SLICE_CYCLES, stall_cycles), until=Until.IDLE):
            stats = self.stats
            now = stats.words_in + stats.words_out
            quiet = quiet + min(_SLICE_CYCLES, stall_cycles) if now == moved else 0
            moved = now
            if quiet >= stall_cycles:
                raise SimulationError(
                    f"the kernel hangs: no word moved in {quiet} cycles, after {stats.words_in} in and "
                    f"{stats.words_out} out; reset it"
                )
        for status in (DmaRegister.MM2S_DMASR, DmaRegister.S2MM_DMASR):
            value = self.read(status)
            for bit, name in _ERRORS.items():
                if value & bit:
                    raise SimulationError(
                        f"{status.name} reports {name} ({value:#x}): {self._blame(status)}; reset it"
                    )

    def _blame(self, status: DmaRegister) -> str:
        stats = self.stats
        if self.read(status) & _SG_INCLUDED:
            at = self.read(status + 4) | self.read(status + 8) << 32
            return f"at the descriptor {at:#x}, after {stats.words_in} words in and {stats.words_out} out"
        if status is DmaRegister.S2MM_DMASR:
            return f"the reply, {stats.words_out} words so far, does not fit the buffer it was given"
        return f"stopped after {stats.words_in} words"

    def _open_handle(self) -> int:
        if self._handle is None:
            raise SimulationError("the SoC is closed")
        return self._handle


_REACHED, _STOPPED = 0, 2


@lru_cache
def _load(library: Path) -> ctypes.CDLL:
    try:
        api = ctypes.CDLL(str(library))
    except OSError as error:
        raise SimulationError(
            f"cannot load {library}: {error}; remove its folder to build it again"
        ) from None
    handle, u32, u64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
    signatures = {
        "soc_open": (handle, [ctypes.c_void_p]),
        "soc_close": (None, [handle]),
        "soc_reg_read": (u32, [handle, u32]),
        "soc_reg_write": (None, [handle, u32, u32]),
        "soc_control_read": (u32, [handle, u32]),
        "soc_control_write": (None, [handle, u32, u32]),
        "soc_fail_next": (None, [handle, ctypes.c_int, u32]),
        "soc_run": (ctypes.c_int, [handle, u64, ctypes.c_int]),
        "soc_cycles": (u64, [handle]),
        "soc_stats": (None, [handle, ctypes.c_void_p]),
        "soc_record": (ctypes.c_int, [handle, ctypes.c_char_p]),
        "soc_error": (ctypes.c_char_p, [handle]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(api, name)
        function.restype, function.argtypes = result, arguments
    return api
