# SPDX-License-Identifier: Apache-2.0
"""A Joulescope, which counts energy itself and reports it several times a second."""

from __future__ import annotations

import threading
import time
from typing import Any

from e2train.energy.meters.protocol import Reading
from e2train.energy.readings import EnergyError, Origin

__all__ = ["JoulescopeMeter", "open_joulescope"]

_FIRST_S = 3.0  # to the first statistics of a fresh device


class JoulescopeMeter:
    """The energy that a device has counted since it was opened."""

    name = "joulescope"
    period_s = 0.5  # statistics come twice a second
    counts_energy = True
    wraps_at_j: float | None = None
    origin: Origin = "measured"

    def __init__(self, device: Any) -> None:
        """``device`` of the joulescope package, not yet open.

        Raises: EnergyError when it reports nothing.
        """
        self._device = device
        self._newest = Reading(0.0)
        self._reported = threading.Event()
        device.open()
        device.parameter_set("i_range", "auto")
        device.statistics_callback_register(self._on_statistics, "sensor")
        if not self._reported.wait(_FIRST_S):
            self.close()
            raise EnergyError(f"the Joulescope reported nothing within {_FIRST_S:g} s; plug it in again")

    def read(self) -> Reading:
        """Joules, and when they were reported."""
        return self._newest

    def close(self) -> None:
        """Let the device go."""
        self._device.statistics_callback_unregister(self._on_statistics, "sensor")
        self._device.close()

    def _on_statistics(self, statistics: dict[str, Any]) -> None:
        self._newest = Reading(float(statistics["accumulators"]["energy"]["value"]), time.monotonic())
        self._reported.set()


def open_joulescope() -> JoulescopeMeter:
    """Open the one device that is connected.

    Raises: EnergyError when the package or the device is missing.
    """
    try:
        from joulescope import scan_require_one
    except ImportError as error:
        raise EnergyError("a Joulescope needs its package; pip install 'e2train[meters]'") from error
    try:
        return JoulescopeMeter(scan_require_one(name="Joulescope", config="auto"))
    except RuntimeError as error:
        raise EnergyError(f"no Joulescope: {error}") from error
