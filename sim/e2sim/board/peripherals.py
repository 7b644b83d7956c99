# SPDX-License-Identifier: Apache-2.0
"""What stands around the logic: registers of the processing system, and a power sensor.

Of the processing system there is what pynq reads and writes: clocks and port widths. The sensor has the files
of Linux' hwmon; what it reads is a model, not a measurement: a power at rest, and another while the logic
works, by the share of the time since the last reading in which it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Architecture", "PowerModel", "Registers", "SimulatedSensor", "clock_registers"]

Architecture = Literal["armv7l", "aarch64"]


@dataclass(slots=True, kw_only=True)
class Registers:
    """A block of 32-bit registers that keep what is written."""

    base: int
    size: int
    values: dict[int, int] = field(default_factory=dict)

    def holds(self, address: int) -> bool:
        """Whether a physical address lies in the block."""
        return self.base <= address < self.base + self.size

    def read(self, address: int) -> int:
        """Read a register."""
        return self.values.get(address - self.base, 0)

    def write(self, address: int, value: int) -> None:
        """Write a register."""
        self.values[address - self.base] = value


def clock_registers(architecture: Architecture, divisors: tuple[int, int]) -> list[Registers]:
    """Blocks whose clocks read as those of a booted board: PL clock 0 is the IO PLL by both divisors."""
    one, other = divisors
    if architecture == "armv7l":
        # SLCR: ARM PLL 1300 MHz, DDR PLL 1050 MHz, IO PLL 1000 MHz; CPU at half the ARM PLL.
        slcr = {0x100: 26 << 12, 0x104: 21 << 12, 0x108: 20 << 12, 0x120: 2 << 8}
        slcr |= {0x170 + 0x10 * index: other << 20 | one << 8 for index in range(4)}
        return [Registers(base=0xF800_0000, size=0x1000, values=slcr)]
    # CRL_APB: IOPLL 33.333 * 90 / 2 = 1500 MHz; CRF_APB: APLL 1200 MHz, DPLL and VPLL beside it.
    crl = {0x20: 1 << 16 | 90 << 8, 0x30: 1 << 16 | 72 << 8}
    crl |= {0xC0 + 4 * index: 1 << 24 | other << 16 | one << 8 for index in range(4)}
    crf = {0x20: 1 << 16 | 72 << 8, 0x2C: 1 << 16 | 64 << 8, 0x38: 1 << 16 | 90 << 8, 0x60: 1 << 8}
    port_widths = [0xFD61_5000, 0xFF41_9000, 0xFF9B_0000, *range(0xFD36_0000, 0xFD3C_0000, 0x10000)]
    return [
        Registers(base=0xFF5E_0000, size=0x1000, values=crl),
        Registers(base=0xFD1A_0000, size=0x1000, values=crf),
        *(Registers(base=base, size=0x1000) for base in port_widths),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerModel:
    """Powers of a board, round figures of the right order."""

    idle_w: float = 6.0
    working_w: float = 8.5
    supply_v: float = 12.0


class SimulatedSensor:
    """Power, current and voltage of the board's supply."""

    def __init__(self, busy_s: Callable[[], float], model: PowerModel | None = None) -> None:
        """``busy_s`` gives for how long the logic has worked so far."""
        self._busy_s = busy_s
        self._model = model or PowerModel()
        self._last = (time.monotonic(), busy_s())
        self._power_w = self._model.idle_w

    def power_w(self) -> float:
        """Mean power since the last reading, which stays where that was a moment ago."""
        now, busy = time.monotonic(), self._busy_s()
        if now - self._last[0] >= 1e-3:
            share = min(1.0, (busy - self._last[1]) / (now - self._last[0]))
            self._power_w = self._model.idle_w + share * (self._model.working_w - self._model.idle_w)
            self._last = (now, busy)
        return self._power_w

    def files(self, folder: str, name: str) -> dict[str, bytes | Callable[[], bytes]]:
        """The sensor's files; its name says that it is simulated."""
        volt = self._model.supply_v
        return {
            f"{folder}/name": f"simulated_{name}\n".encode(),
            f"{folder}/power1_input": lambda: b"%d\n" % round(1e6 * self.power_w()),  # microwatts
            f"{folder}/curr1_input": lambda: b"%d\n" % round(1e3 * self.power_w() / volt),  # milliamperes
            f"{folder}/in1_input": lambda: b"%d\n" % round(1e3 * volt),  # millivolts
        }
