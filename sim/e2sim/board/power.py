# SPDX-License-Identifier: Apache-2.0
"""A simulated power sensor, in the files of Linux' hwmon.

What it reads is a model, not a measurement: a power at rest, and another while the logic works, by the share
of the time since the last reading in which it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["PowerModel", "SimulatedSensor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerModel:
    """Powers of a board, round figures of the right order."""

    idle_w: float = 6.0
    working_w: float = 8.5
    supply_v: float = 12.0


class SimulatedSensor:
    """Power, current and voltage of the board's supply."""

    def __init__(self, busy_s: Callable[[], float], model: PowerModel | None = None) -> None:
        """``busy_s`` tells for how long the logic has worked so far."""
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
