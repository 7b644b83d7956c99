# SPDX-License-Identifier: Apache-2.0
"""The programmable logic of a simulated board: nothing, or the Verilated SoCs that a bitstream asks for.

A SoC is a DMA with its engine. Its clock runs while a chain is under way, in a thread of its own; registers
are read in between.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from e2sim.board.bitstream import Design
from e2sim.board.cdma import Cdma
from e2sim.board.faults import OF_THE_BOARD, FaultKind, FaultPlan
from e2sim.board.memory import ContiguousMemory
from e2sim.board.peripherals import Registers
from e2sim.soc import DmaRegister, Soc, Until

__all__ = ["Logic"]

_SLICE_CYCLES = 2_000  # between which registers can be read
_SLVERR = 1 << 5
_RESET = 1 << 2
_DESCRIPTOR_FIELDS = (0x00, 0x08, 0x18)  # the next one's address, the piece's address and length (PG021)
_LENGTH = (1 << 26) - 1
_WITHIN_HEADER = 56  # bytes; its check word tells


class Logic:
    """What a bitstream has made of the PL: DMAs with an engine behind each."""

    def __init__(
        self,
        memory: ContiguousMemory,
        build: Callable[[Design], Path],
        *,
        faults: FaultPlan,
        interrupt: Callable[[FaultKind], None] = lambda kind: None,
    ) -> None:
        """``build`` gives the library of a SoC for a design, ``interrupt`` a fault of the whole board."""
        self._memory = memory
        self._build = build
        self._faults = faults
        self._interrupt = interrupt
        self._engines: list[_Engine] = []
        self._design: Design | None = None
        self._gpio: Registers | None = None
        self._starter: Cdma | None = None
        self._past_s = 0.0  # that engines of earlier bitstreams have worked

    @property
    def transfers(self) -> int:
        """Chains of all engines so far."""
        return self._faults.transfers

    @property
    def busy_s(self) -> float:
        """Seconds in which the engines have worked so far, all together."""
        return self._past_s + sum(engine.busy_s for engine in self._engines)

    def program(self, design: Design) -> None:
        """Configure the logic again.

        Raises: SimulationError, HlsError when the design cannot be built.
        """
        library = self._build(design)
        self.close()
        self._engines = [_Engine(library, self._memory) for _ in range(design.engines)]
        self._design = design
        self._gpio = Registers(base=design.gpio_base, size=design.dma_range)
        self._starter = None
        if design.starter_base:
            self._starter = Cdma(memory=self._memory, holds=self._is_dma, write_register=self.write)

    def holds(self, address: int) -> bool:
        """Whether something in the logic answers at a physical address."""
        design = self._design
        if design is None or self._gpio is None:
            return False
        if self._controls(address) is not None or self._starts(address) is not None:
            return True
        return self._is_dma(address) or self._gpio.holds(address)

    def read(self, address: int) -> int:
        """Read a register."""
        if self._gpio is not None and self._gpio.holds(address):
            return self._gpio.read(address)
        control = self._controls(address)
        if control is not None:
            return self._engines[0].read_control(control)
        starter = self._starts(address)
        if starter is not None and self._starter is not None:
            return self._starter.read(starter)
        engine, offset = self._at(address)
        return engine.read(offset)

    def write(self, address: int, value: int) -> None:
        """Write a register; the tail of an MM2S chain sets it going."""
        if self._gpio is not None and self._gpio.holds(address):
            self._gpio.write(address, value)
            return
        control = self._controls(address)
        if control is not None:
            self._engines[0].write_control(control, value)
            return
        starter = self._starts(address)
        if starter is not None and self._starter is not None:
            self._starter.write(starter, value)
            return
        engine, offset = self._at(address)
        if offset == DmaRegister.MM2S_TAILDESC and self._started(engine) == "hang":
            return
        engine.write(offset, value)

    def close(self) -> None:
        """Stop the clocks."""
        engines, self._engines = self._engines, []
        for engine in engines:
            engine.close()
            self._past_s += engine.busy_s

    def _controls(self, address: int) -> int | None:
        """The offset among the kernel's own registers, None where they are not."""
        return self._within(address, self._design.control_base) if self._design else None

    def _starts(self, address: int) -> int | None:
        """The offset among those of the CDMA, None where they are not."""
        return self._within(address, self._design.starter_base) if self._design else None

    def _within(self, address: int, base: int) -> int | None:
        assert self._design is not None
        offset = address - base
        return offset if base and 0 <= offset < self._design.dma_range else None

    def _is_dma(self, address: int) -> bool:
        """Whether a DMA answers at a physical address."""
        design = self._design
        assert design is not None
        return 0 <= address - design.dma_base < len(self._engines) * design.dma_range

    def _at(self, address: int) -> tuple[_Engine, int]:
        assert self._design is not None
        number, offset = divmod(address - self._design.dma_base, self._design.dma_range)
        return self._engines[number], offset

    def _started(self, engine: _Engine) -> FaultKind | None:
        """Count a chain, and arrange for the fault that it is to have."""
        fault = self._faults.started()
        if fault == "dma-slverr":
            engine.fail_next()
        elif fault == "bitflip":
            self._flip(engine.first)
        elif fault in OF_THE_BOARD:
            self._interrupt(fault)
        return fault

    def _flip(self, descriptor: int) -> None:
        """Change a bit of what a chain moves first: of a single piece its middle, else the frame's header."""
        following, source, length = (self._word(descriptor + at) for at in _DESCRIPTOR_FIELDS)
        length &= _LENGTH
        at = length // 2 if following == descriptor else min(length // 2, _WITHIN_HEADER)
        self._memory.ddr[source - self._memory.base + at] ^= np.uint8(1 << 3)

    def _word(self, address: int) -> int:
        at = address - self._memory.base
        return int(self._memory.ddr[at : at + 8].view(np.uint64)[0])


class _Engine:
    """A SoC with a clock that runs while there is work."""

    def __init__(self, library: Path, memory: ContiguousMemory) -> None:
        self._soc = Soc(library, memory=memory.ddr, memory_base=memory.base, scatter_gather=True)
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._closed = False
        self.busy_s = 0.0
        self.first = 0  # descriptor of MM2S, at which its chains begin
        self._thread = threading.Thread(target=self._clock, name="simulated logic", daemon=True)
        self._thread.start()

    def read(self, offset: int) -> int:
        with self._lock:
            return self._soc.read(offset)

    def write(self, offset: int, value: int) -> None:
        with self._lock:
            soc = self._soc
            soc.write(offset, value)
            if offset == DmaRegister.MM2S_CURDESC:
                self.first = soc.read(offset)
            if offset in (DmaRegister.MM2S_DMACR, DmaRegister.S2MM_DMACR) and value & _RESET:
                while soc.read(offset) & _RESET:
                    soc.run(8)
        self._work.set()

    def read_control(self, offset: int) -> int:
        """Read a register of the kernel, whose clock runs on between two accesses."""
        with self._lock:
            self._soc.run(_SLICE_CYCLES)
            return self._soc.control_read(offset)

    def write_control(self, offset: int, value: int) -> None:
        with self._lock:
            self._soc.control_write(offset, value)

    def fail_next(self) -> None:
        with self._lock:
            self._soc.fail_next("mm2s", _SLVERR)

    def close(self) -> None:
        self._closed = True
        self._work.set()
        self._thread.join()
        with self._lock:
            self._soc.close()

    def _clock(self) -> None:
        while (
            not self._closed
        ):  # looked at after the clear() below, too: that may swallow the set() of close()
            self._work.wait()
            if self._closed:
                return
            begin = time.monotonic()
            with self._lock:
                idle = self._soc.run(_SLICE_CYCLES, until=Until.IDLE)
                if idle:
                    self._work.clear()
            self.busy_s += time.monotonic() - begin
            time.sleep(1e-4)  # lets a register access in
