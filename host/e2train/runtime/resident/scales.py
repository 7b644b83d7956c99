# SPDX-License-Identifier: Apache-2.0
"""Delayed scales: a tensor's power of two follows from the magnitudes that earlier steps have seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from e2train.numerics.elementwise import Kind
from e2train.numerics.scales import Floats, kind_exponent
from e2train.runtime.resident.kinds import is_narrow

__all__ = ["Scales"]

_FIRST_ROOM = 2.0  # a scale's first maximum is so many times what a first run has shown


class Scales:
    """The running maximum of each tensor: the larger of its last value, a little forgotten, and a step's.

    ``maxima`` is the state of a run; a maximum of zero is not known yet.
    """

    def __init__(
        self,
        kinds: dict[str, Kind],
        maxima: Floats,
        *,
        decay: float,
        gradient_range: float = 1.0,
        dithered: bool = False,
    ) -> None:
        """``maxima`` of the tensors in the order of ``kinds``; changed in place.

        Output gradients of 8 bits, those of blocks among them, reach ``gradient_range`` times their maximum;
        ``dithered``: they are rounded so that errors cancel out.
        """
        self.maxima = maxima
        self._kinds = kinds
        self._decay = decay
        self._range = gradient_range
        self._dithered = dithered
        self._at = {name: index for index, name in enumerate(kinds)}
        self._seen = np.full(len(kinds), -1.0)
        self._started: set[str] = set()  # in this step
        self._guessed: set[str] = set()

    def kind(self, name: str) -> Kind:
        """Of a tensor's integers."""
        return self._kinds[name]

    def known(self, name: str) -> bool:
        """Whether a tensor has a maximum yet."""
        return bool(self.maxima[self._at[name]] > 0)

    def exponent(self, name: str) -> int:
        """The exponent of a tensor's integers in this step."""
        kind, maximum = self._kinds[name], float(self.maxima[self._at[name]])
        return kind_exponent(maximum * self._range if self._narrow(name) else maximum, kind)

    def dithers(self, name: str) -> bool:
        """Whether a tensor's integers are to be rounded so that errors cancel out."""
        return self._dithered and self._narrow(name)

    def start(self, name: str, magnitude: float, *, guessed: bool = False) -> None:
        """Take the magnitude of a first run for the maximum; a guess serves in this step alone."""
        self.maxima[self._at[name]] = _FIRST_ROOM * magnitude
        self._started.add(name)
        if guessed:
            self._guessed.add(name)

    def see(self, name: str, magnitude: float) -> None:
        """Take notice of a magnitude in this step; it counts from the next one on."""
        at = self._at[name]
        self._seen[at] = max(self._seen[at], magnitude)

    def advance(self, over_ranks: Callable[[Floats], Floats]) -> None:
        """End a step; ``over_ranks`` gives the element-wise maximum over all ranks.

        A tensor that no rank has seen in this step keeps its maximum.
        """
        seen = over_ranks(self._seen)
        self.maxima[[self._at[name] for name in self._guessed]] = 0.0
        moved = np.maximum(self._decay * self.maxima, seen)
        self.maxima[:] = np.where(seen < 0, self.maxima, moved)
        self._end()

    def forget(self) -> None:
        """Take back what this step has seen and started, as an evaluation must not move scales."""
        self.maxima[[self._at[name] for name in self._started]] = 0.0
        self._end()

    def drop_step(self) -> None:
        """Forget what this step has seen, as ``maxima`` are again those from before it."""
        self._end()

    def _narrow(self, name: str) -> bool:
        return is_narrow(name, self._kinds[name])

    def _end(self) -> None:
        self._seen[:] = -1.0
        self._started.clear()
        self._guessed.clear()
