# SPDX-License-Identifier: Apache-2.0
"""Energy counters of x86 processors, as Linux' powercap shows them: the baseline on a laptop or server."""

from __future__ import annotations

from dataclasses import dataclass

from e2train.energy.meters.files import read_local_file, read_micro
from e2train.energy.meters.protocol import ReadFile, Reading
from e2train.energy.readings import EnergyError, Origin

__all__ = ["RaplMeter", "find_rapl"]

_ROOT = "/sys/class/powercap"
_MOST = 16  # packages looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class RaplMeter:
    """One package of the processor."""

    name: str
    folder: str
    wraps_at_j: float | None  # None where the kernel does not say
    read_file: ReadFile = read_local_file
    period_s: float = 0.05  # it counts every millisecond, but to look costs time
    counts_energy: bool = True
    origin: Origin = "measured"

    def read(self) -> Reading:
        """Joules.

        Raises: EnergyError when the counter has gone, or may not be read, as is the default since 2020.
        """
        path = f"{self.folder}/energy_uj"
        try:
            return Reading(read_micro(self.read_file, path, self.name))
        except PermissionError:
            raise EnergyError(f"{path} may not be read; run as root, or: sudo chmod a+r {path}") from None

    def close(self) -> None:
        """There is nothing to let go of."""


def find_rapl(read_file: ReadFile = read_local_file, root: str = _ROOT) -> list[RaplMeter]:
    """All packages, also those that may not be read."""
    meters = []
    for index in range(_MOST):
        folder = f"{root}/intel-rapl:{index}"
        name = read_file(f"{folder}/name")
        if name is None:
            break
        label = f"rapl {name.decode('utf-8', 'replace').strip()}"
        limit = f"{folder}/max_energy_range_uj"
        wraps_at_j = None if read_file(limit) is None else read_micro(read_file, limit, label)
        meters.append(RaplMeter(name=label, folder=folder, wraps_at_j=wraps_at_j, read_file=read_file))
    return meters
