# SPDX-License-Identifier: Apache-2.0
"""Power sensors of Linux' hwmon (INA226, INA260 and the like), read through any function that reads files.

The function is the board's: local files on the board itself, PYNQ.remote's file calls from a PC.
"""

from __future__ import annotations

from dataclasses import dataclass

from e2train.energy.meters.files import read_micro
from e2train.energy.meters.protocol import ReadFile, Reading
from e2train.energy.readings import Origin

__all__ = ["HwmonMeter", "find_hwmon"]

_ROOT = "/sys/class/hwmon"
_MOST = 64  # chips looked at
_GAP = 4  # numbers in a row without a chip: there are no more; unbound drivers leave smaller gaps
_SIMULATED = "simulated_"
_PERIOD_S = 0.15  # INA260s on Kria boards give 6 to 7 values a second; others are as fast or faster


@dataclass(frozen=True, slots=True, kw_only=True)
class HwmonMeter:
    """One chip that measures power."""

    name: str
    path: str  # of its power in microwatts
    read_file: ReadFile
    period_s: float = _PERIOD_S
    counts_energy: bool = False
    wraps_at_j: float | None = None

    @property
    def origin(self) -> Origin:
        """Simulated boards say so in the names of their sensors."""
        return "simulated" if self.name.startswith(_SIMULATED) else "measured"

    def read(self) -> Reading:
        """Watts.

        Raises: EnergyError when it has gone, or says something that is no number.
        """
        return Reading(read_micro(self.read_file, self.path, self.name))

    def close(self) -> None:
        """There is nothing to let go of."""


def find_hwmon(read_file: ReadFile, root: str = _ROOT) -> list[HwmonMeter]:
    """All chips that measure power; one that cannot be read, as while it is off, is left out."""
    meters: list[HwmonMeter] = []
    missing = 0
    for index in range(_MOST):
        folder = f"{root}/hwmon{index}"
        name = read_file(f"{folder}/name")
        missing = missing + 1 if name is None else 0
        if missing == _GAP:
            break
        path = f"{folder}/power1_input"
        if name is not None and _readable(read_file, path):
            meters.append(HwmonMeter(name=name.decode().strip(), path=path, read_file=read_file))
    return meters


def _readable(read_file: ReadFile, path: str) -> bool:
    try:
        return read_file(path) is not None
    except (OSError, RuntimeError):
        return False
