# SPDX-License-Identifier: Apache-2.0
"""Power rails of a board's regulators, as pynq finds them through libsensors on the board itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from e2train.energy.meters.protocol import Reading
from e2train.energy.readings import EnergyError, Origin

__all__ = ["RailMeter", "find_rails"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RailMeter:
    """One rail; many regulators have steps of an eighth of a watt."""

    name: str
    rail: Any  # pynq.pmbus.Rail
    period_s: float = 0.1
    counts_energy: bool = False
    wraps_at_j: float | None = None
    origin: Origin = "measured"

    def read(self) -> Reading:
        """Watts."""
        return Reading(float(self.rail.power.value))

    def close(self) -> None:
        """There is nothing to let go of."""


def find_rails() -> list[RailMeter]:
    """All rails with a power.

    Raises: EnergyError when pynq or libsensors is missing.
    """
    try:
        from pynq import pmbus
    except ImportError as error:
        raise EnergyError(f"pmbus rails need pynq on the board: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # all that a missing libsensors is to pynq
            rails = pmbus.get_rails()
    except Exception as error:  # it shows in many ways
        raise EnergyError(f"pynq finds no libsensors: {' '.join(str(error).split())[:100]}") from error
    return [
        RailMeter(name=f"pmbus {name}", rail=rail) for name, rail in rails.items() if rail.power is not None
    ]
