# SPDX-License-Identifier: Apache-2.0
"""A simulated board: memory, processing system, programmable logic, files, a sensor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2hls.simulation.toolchain import SimulationError

from e2sim.board.bitstream import BitstreamError, Design, read_bitstream
from e2sim.board.faults import FaultKind, FaultPlan
from e2sim.board.files import Files
from e2sim.board.logic import Logic
from e2sim.board.memory import ContiguousMemory
from e2sim.board.peripherals import Architecture, Registers, SimulatedSensor, clock_registers

__all__ = ["Board", "BoardModel", "BusError"]


class BusError(RuntimeError):
    """Nothing answers at an address; a real board's bus would hang or fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardModel:
    """What a board is."""

    name: str  # as it calls itself
    design: str  # the overlay description that it takes
    architecture: Architecture
    divisors: tuple[int, int]  # of PL clock 0
    sensor: str = ""  # hwmon name, "" where the board has none
    memory_bytes: int = 256 << 20

    @property
    def compatible(self) -> str:
        """What its device tree says."""
        soc = "xlnx,zynq-7000" if self.architecture == "armv7l" else "xlnx,zynqmp"
        return f"xlnx,{self.name.lower()}\0{soc}"


class Board:
    """The state behind the services."""

    def __init__(
        self,
        model: BoardModel,
        build: Callable[[Design], Path],
        *,
        faults: FaultPlan,
        interrupt: Callable[[FaultKind], None] = lambda kind: None,
    ) -> None:
        """``build`` gives the simulated SoC's library for a design; ``interrupt`` is called with faults."""
        self.model = model
        self.lock = threading.RLock()
        base = 0x1680_0000 if model.architecture == "armv7l" else 0x6000_0000
        self.memory = ContiguousMemory(base=base, size=model.memory_bytes)
        self.logic = Logic(self.memory, build, faults=faults, interrupt=interrupt)
        self._registers = clock_registers(model.architecture, model.divisors)
        self.files = Files(
            board=model.name,
            architecture=model.architecture,
            compatible=model.compatible,
            program=self._program,
        )
        self.files.add("/proc/meminfo", self._meminfo)
        if model.sensor:
            sensor = SimulatedSensor(lambda: self.logic.busy_s)
            for path, content in sensor.files("/sys/class/hwmon/hwmon0", model.sensor).items():
                self.files.add(path, content)

    def read(self, address: int) -> int:
        """Read the 32-bit register at a physical address.

        Raises: BusError.
        """
        try:
            return self._at(address).read(address)
        except SimulationError as error:  # the kernel behind it has stopped
            raise BusError(f"nothing answers at {address:#x}: {error}") from error

    def write(self, address: int, value: int) -> None:
        """Write the 32-bit register at a physical address.

        Raises: BusError.
        """
        try:
            self._at(address).write(address, value)
        except SimulationError as error:
            raise BusError(f"nothing answers at {address:#x}: {error}") from error

    def close(self) -> None:
        """Switch off."""
        self.logic.close()

    def _meminfo(self) -> bytes:
        """What Linux tells of the memory for contiguous buffers."""
        whole, free = self.model.memory_bytes, self.model.memory_bytes - self.memory.used_bytes
        return b"CmaTotal: %15d kB\nCmaFree: %16d kB\n" % (whole >> 10, free >> 10)

    def _at(self, address: int) -> Registers | Logic:
        if self.logic.holds(address):
            return self.logic
        for block in self._registers:
            if block.holds(address):
                return block
        raise BusError(f"nothing answers at {address:#x}; is the logic programmed?")

    def _program(self, firmware: bytes) -> None:
        design = read_bitstream(firmware)
        if design.board != self.model.design:
            raise BitstreamError(f"this bitstream is for {design.board}, the board is a {self.model.design}")
        self.logic.program(design)
