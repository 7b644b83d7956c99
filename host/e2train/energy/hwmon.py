# SPDX-License-Identifier: Apache-2.0
"""Power sensors of Linux' hwmon (INA226, INA260 and the like), read through any function that reads files.

The function is the board's: local files on the board itself, PYNQ.remote's file calls from a PC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["HwmonSensor", "SensorError", "find_sensors"]

_ROOT = "/sys/class/hwmon"
_MOST = 64
_SIMULATED = "simulated_"

ReadFile = Callable[[str], bytes | None]


class SensorError(RuntimeError):
    """A sensor that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HwmonSensor:
    """One chip that measures power."""

    name: str
    path: str  # of its power in microwatts
    read_file: ReadFile

    @property
    def simulated(self) -> bool:
        """Whether a simulated board makes it up."""
        return self.name.startswith(_SIMULATED)

    def power_w(self) -> float:
        """Read the power now.

        Raises: SensorError when it has gone, or says something that is no number.
        """
        content = self.read_file(self.path)
        if content is None:
            raise SensorError(f"sensor {self.name} is gone: no file {self.path}")
        try:
            return int(content) / 1e6
        except ValueError:
            raise SensorError(f"sensor {self.name} says {content[:40]!r}, which is no number") from None


def find_sensors(read_file: ReadFile) -> list[HwmonSensor]:
    """All chips that measure power; hwmon numbers them without gaps."""
    sensors = []
    for index in range(_MOST):
        folder = f"{_ROOT}/hwmon{index}"
        name = read_file(f"{folder}/name")
        if name is None:
            break
        path = f"{folder}/power1_input"
        if read_file(path) is not None:
            sensors.append(HwmonSensor(name=name.decode().strip(), path=path, read_file=read_file))
    return sensors
