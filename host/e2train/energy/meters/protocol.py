# SPDX-License-Identifier: Apache-2.0
"""What all meters have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from e2train.energy.readings import Origin

__all__ = ["Meter", "ReadFile", "Reading"]

ReadFile = Callable[[str], "bytes | None"]  # the content of a file, None where there is none


@dataclass(frozen=True, slots=True)
class Reading:
    """A value: watts, or joules of a meter that counts them."""

    value: float
    time_s: float | None = None  # by time.monotonic, where the meter itself knows when; None: now


class Meter(Protocol):
    """A sensor that is read now and then: for its power, or for the energy that it has counted."""

    @property
    def name(self) -> str: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def period_s(self) -> float:
        """In which it has something new."""
        ...

    @property
    def counts_energy(self) -> bool:
        """Whether it reads joules, else watts."""
        ...

    @property
    def wraps_at_j(self) -> float | None:
        """Where a counter starts again at 0."""
        ...

    def read(self) -> Reading:
        """The newest value.

        Raises: OSError, or a RuntimeError such as EnergyError or that of a lost board.
        """
        ...

    def close(self) -> None: ...
