# SPDX-License-Identifier: Apache-2.0
"""What a meter said over time, and the energy of a window of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["EnergyError", "Gap", "Origin", "Recording", "Window", "shortest_window_s"]

Origin = Literal["measured", "simulated"]
Floats = NDArray[np.float64]

_FEWEST_PERIODS = 10  # in a window whose energy is worth telling
_GAP_PERIODS = 3  # without a sample are a gap
_END_PERIODS = 2  # that one may begin late or end early, where no sample lies beyond
_FEWEST_SAMPLES = 5  # of a power sensor in a window
_MOST_UNSEEN = 0.01  # share of a window that a power sensor may be silent
_GAP_FACTOR = 2.0  # by which the power while nobody looked may have been higher than ever seen
_MOST_WRAPPED_W = 2000.0  # over a step back of a counter; above, it was reset


class EnergyError(RuntimeError):
    """A meter that cannot be used, or readings that give no energy; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time without samples, by the recording's clock."""

    start_s: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The energy of a window; ``net_energy_j`` is what is above the idle power, where that is known."""

    energy_j: float
    duration_s: float
    samples: int
    gaps: tuple[Gap, ...]
    idle_power_w: float | None = None

    @property
    def power_w(self) -> float:
        """Mean power."""
        return self.energy_j / self.duration_s

    @property
    def net_energy_j(self) -> float | None:
        """Energy above what the idle board would have taken in the same time."""
        return None if self.idle_power_w is None else self.energy_j - self.idle_power_w * self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Samples of one meter: watts, or joules counted up from anywhere, where ``counts_energy``.

    Shapes: times_s, values and marks (N,); times strictly ascending, by one clock.
    """

    meter: str
    origin: Origin
    period_s: float  # in which the sensor has something new
    times_s: Floats
    values: Floats
    marks: NDArray[np.int64]  # what was under way: the number of a step, -1 before the first
    counts_energy: bool = False
    wraps_at_j: float | None = None  # where the counter starts again at 0
    notes: tuple[str, ...] = ()  # lost samples, steps of the wall clock

    @property
    def source(self) -> str:
        """Where the figures come from."""
        return f"{self.origin} by {self.meter}"

    def power(self) -> tuple[Floats, Floats]:
        """Times and watts; of a counter, the mean power between samples, at their middles."""
        if not self.counts_energy:
            return self.times_s, self.values
        middles = (self.times_s[1:] + self.times_s[:-1]) / 2
        return middles, np.diff(self._energy_j()) / np.diff(self.times_s)

    def window(self, start_s: float, stop_s: float, *, idle_power_w: float | None = None) -> Window:
        """Integrate from ``start_s`` to ``stop_s``: trapezoids between samples of power.

        Raises: EnergyError when that is shorter than ten periods of the sensor, when a power sensor was
            silent for more than a hundredth of it or gave fewer than five samples, when a counter started
            again and nobody knows where it did or it was reset, or when the energy is negative, though
            samples may be, or not finite.
        """
        duration_s = stop_s - start_s
        shortest_s = shortest_window_s(self.period_s)
        if duration_s < shortest_s:
            raise EnergyError(
                f"{duration_s:.3g} s are too short for {self.meter}, which has a new value every "
                f"{self.period_s:g} s; measure at least {shortest_s:g} s"
            )
        inside = (self.times_s >= start_s) & (self.times_s <= stop_s)
        gaps = self._gaps(inside, start_s, stop_s)
        unseen_s = sum(gap.duration_s for gap in gaps)
        # A counter goes on counting while nobody looks; what a power was then, nobody knows.
        bridged = self.counts_energy and inside.sum() >= 2 and not self._open_ended(inside, start_s, stop_s)
        if inside.sum() < 2 or (unseen_s > _MOST_UNSEEN * duration_s and not bridged):
            why = f" ({self.notes[0]})" if self.notes else ""
            raise EnergyError(
                f"{self.meter} was silent for {unseen_s:.3g} of {duration_s:.3g} s{why}; energy not reported"
            )
        if inside.sum() < _FEWEST_SAMPLES and not bridged:
            raise EnergyError(
                f"{self.meter} gave {inside.sum()} values in {duration_s:.3g} s, and {_FEWEST_SAMPLES} are "
                "needed; measure longer"
            )
        if self.counts_energy and self.wraps_at_j is None and (np.diff(self.values) < 0).any():
            raise EnergyError(
                f"{self.meter} started to count again and does not say at what value; energy not reported"
            )
        self._check_wraps(start_s, stop_s)
        energy_j = float(np.diff(self.energy_at(np.array([start_s, stop_s])))[0])
        if not math.isfinite(energy_j):
            raise EnergyError(f"{self.meter} gave samples too large to add up; look at its scale")
        if energy_j < 0:
            raise EnergyError(
                f"{self.meter} measured a negative mean power, {energy_j / duration_s:.3g} W; look whether "
                "its shunt is the wrong way round"
            )
        return Window(
            energy_j=energy_j,
            duration_s=duration_s,
            samples=int(inside.sum()),
            gaps=gaps,
            idle_power_w=idle_power_w,
        )

    def _check_wraps(self, start_s: float, stop_s: float) -> None:
        """Refuse a counter that was reset within a window, or may have wrapped more than once unseen."""
        if not self.counts_energy or self.wraps_at_j is None:
            return
        lengths_s, powers_w = np.diff(self.times_s), self.power()[1]
        read = (self.times_s[1:] > start_s) & (self.times_s[:-1] < stop_s)
        unread_s = float(np.max(lengths_s, where=read, initial=0.0))
        if unread_s > _GAP_PERIODS * self.period_s:
            usual = lengths_s <= _GAP_PERIODS * self.period_s
            usual_w = float(np.max(powers_w, where=usual, initial=0.0))
            if _GAP_FACTOR * usual_w * unread_s >= self.wraps_at_j:
                raise EnergyError(
                    f"{self.meter} was not read for {unread_s:.3g} s, in which it may have started again "
                    "more than once; energy not reported, measure again"
                )
        used = (self.times_s[1:] > start_s) & (self.times_s[:-1] < stop_s) & (np.diff(self.values) < 0)
        most_w = float(np.max(self.power()[1], where=used, initial=0.0))
        if most_w > _MOST_WRAPPED_W:
            raise EnergyError(
                f"{self.meter} was reset: as a wrap, the step back would mean {most_w:.3g} W, more than "
                f"{_MOST_WRAPPED_W:g} W; energy not reported, measure again"
            )

    def _energy_j(self) -> Floats:
        """Energy since the first sample, at every sample."""
        if self.counts_energy:
            steps = np.diff(self.values)
            if self.wraps_at_j is not None:
                steps = np.where(steps < 0, steps + self.wraps_at_j, steps)
        else:
            steps = (self.values[1:] + self.values[:-1]) / 2 * np.diff(self.times_s)
        return np.concatenate([[0.0], np.cumsum(steps)])

    def energy_at(self, times_s: Floats) -> Floats:
        """Energy since the first sample, at any time; beyond the samples the power at their end goes on."""
        energy_j, powers_w = self._energy_j(), self.power()[1]
        first, last = self.times_s[0], self.times_s[-1]
        if self.counts_energy:
            inside = np.interp(times_s, self.times_s, energy_j)
        else:  # the part of a trapezoid
            index = np.clip(np.searchsorted(self.times_s, times_s, side="right") - 1, 0, len(energy_j) - 1)
            power_w = np.interp(times_s, self.times_s, self.values)
            inside = energy_j[index] + (self.values[index] + power_w) / 2 * (times_s - self.times_s[index])
        before = powers_w[0] * (times_s - first)
        after = energy_j[-1] + powers_w[-1] * (times_s - last)
        result: Floats = np.where(times_s < first, before, np.where(times_s > last, after, inside))
        return result

    def _gaps(self, inside: NDArray[np.bool_], start_s: float, stop_s: float) -> tuple[Gap, ...]:
        bounds = np.concatenate([[start_s], self.times_s[inside], [stop_s]])
        lengths_s = np.diff(bounds)
        longest_s = np.full(len(lengths_s), _GAP_PERIODS * self.period_s)
        longest_s[[0, -1]] = self._allowed_ends_s(start_s, stop_s)
        return tuple(
            Gap(start_s=float(bounds[index]), duration_s=float(lengths_s[index]))
            for index in np.flatnonzero(lengths_s > longest_s)
        )

    def _allowed_ends_s(self, start_s: float, stop_s: float) -> tuple[float, float]:
        """How long the beginning and the end of a window may be silent; less where nothing lies beyond."""
        longest_s = _GAP_PERIODS * self.period_s
        before = (self.times_s < start_s) & (self.times_s >= start_s - longest_s)
        after = (self.times_s > stop_s) & (self.times_s <= stop_s + longest_s)
        shorter_s = _END_PERIODS * self.period_s
        return longest_s if before.any() else shorter_s, longest_s if after.any() else shorter_s

    def _open_ended(self, inside: NDArray[np.bool_], start_s: float, stop_s: float) -> bool:
        """Whether the samples leave the beginning or the end of a window out."""
        seen = self.times_s[inside]
        first_s, last_s = self._allowed_ends_s(start_s, stop_s)
        return bool(seen[0] - start_s > first_s or stop_s - seen[-1] > last_s)


def shortest_window_s(period_s: float) -> float:
    """How long a window must be at least.

    >>> shortest_window_s(0.15)
    1.5
    """
    return _FEWEST_PERIODS * period_s
