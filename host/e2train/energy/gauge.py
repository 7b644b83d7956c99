# SPDX-License-Identifier: Apache-2.0
"""The energy of one run of anything: idle power first, then the window from start to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from e2train.energy.meters import LogSpec, Meter
from e2train.energy.power_log import HEADER, PowerLog, Spool, power_line
from e2train.energy.readings import EnergyError, Gap, Origin, Recording, shortest_window_s
from e2train.energy.recorder import Recorder

__all__ = ["PHASES", "Gauge", "Measured", "Phase", "gauge", "write_samples"]

Phase = Literal["forward", "backward", "idle"]
PHASES: tuple[Phase, ...] = get_args(Phase)
_COMPUTING: tuple[Phase, ...] = ("forward", "backward")
_PHASE_PERIODS = 10  # of a sensor, that a phase must last

_IDLE_S = 2.0  # at least
_CLOCK_STEP_S = 0.1  # of the wall clock against the monotonic one
_CHANGE = np.dtype([("time_s", "<f8"), ("phase", "<i8")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a meter says of a window; no energy, and the reason, where it says nothing."""

    energy_j: float | None = None
    duration_s: float = 0.0
    idle_power_w: float | None = None
    net_energy_j: float | None = None
    phases_j: dict[str, float] | None = None  # of the energy
    phases_reason: str | None = None  # why that is not known
    source: str | None = None
    origin: Origin | None = None  # of the samples; None where there are none
    from_log: bool = False  # which an external meter wrote
    reason: str | None = None
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was not as it should be while it measured, a line each: gaps, and what the meter noted."""
        gaps = (f"gap of {gap.duration_s:.3f} s at {gap.start_s:.3f} s" for gap in self.gaps)
        return (*gaps, *self.notes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, payload: dict[str, Any]) -> Measured:
        """Back from JSON."""
        gaps = tuple(Gap(**gap) for gap in payload["gaps"])
        return cls(**{**payload, "gaps": gaps, "notes": tuple(payload["notes"])})


class Gauge:
    """A meter that is under way; without one, it keeps the reason."""

    def __init__(self, meter: Meter | LogSpec | str, recorder: Recorder | None, idle_s: float) -> None:
        self._meter = meter
        self._recorder = recorder
        self._idle_s = idle_s
        self._start_s = time.monotonic()
        self._stop_s: float | None = None  # while it goes on
        self._wall_offset_s = _wall_offset_s()
        self._wall_step_s = 0.0  # within the window
        self._changes = Spool(_CHANGE)
        self._lost_phases: str | None = None
        self.enter("idle")

    def mark(self, number: int) -> None:
        """Say what is under way from now on, such as the number of a step."""
        if self._recorder is not None:
            self._recorder.mark = number

    def enter(self, phase: Phase) -> None:
        """Say which phase of a step begins; what is none of forward and backward is idle."""
        if not isinstance(self._meter, str):
            try:
                self._changes.append(time.monotonic() - self._start_s, PHASES.index(phase))
            except OSError as error:
                self._lost_phases = f"a phase was lost: {error.strerror}"

    @property
    def start_s(self) -> float:
        """When the window began, by the monotonic clock."""
        return self._start_s

    def stop(self) -> None:
        """End the window, once."""
        if self._stop_s is None:
            self._stop_s = time.monotonic()
            self._wall_step_s = _wall_offset_s() - self._wall_offset_s

    @property
    def duration_s(self) -> float:
        """Of the window so far."""
        return (self._stop_s or time.monotonic()) - self._start_s

    def samples(self) -> Recording | None:
        """What was recorded so far; None without a meter, or where its log cannot be used."""
        try:
            return self.recording()
        except EnergyError:
            return None

    def recording(self) -> Recording | None:
        """All samples, with times since the window's start; None without a meter.

        Raises: EnergyError for a log that cannot be used.
        """
        if isinstance(self._meter, LogSpec):
            return self._from_log(self._meter)
        if self._recorder is None:
            return None
        recorded = self._recorder.recording()
        return replace(recorded, times_s=recorded.times_s - self._start_s)

    def measured(self) -> Measured:
        """The window's energy so far, or why there is none."""
        duration_s = self.duration_s
        if isinstance(self._meter, str):
            return Measured(duration_s=duration_s, reason=self._meter)
        if isinstance(self._meter, LogSpec) and self._stop_s is None:  # it is still being written
            return Measured(duration_s=duration_s, reason="a log cannot be read before the run is over")
        recording = None
        try:
            recording = self.recording()
            assert recording is not None
            idle_power_w = self._idle_power_w(recording)
            window = recording.window(0.0, duration_s, idle_power_w=idle_power_w)
            if not window.energy_j:
                raise EnergyError(
                    f"{recording.meter} read 0 in all of {window.samples} samples; look at its wiring, or "
                    "choose another --meter"
                )
        except EnergyError as error:
            notes = recording.notes if recording else ()
            origin = recording.origin if recording and len(recording.times_s) else None
            return Measured(duration_s=duration_s, reason=str(error), notes=notes, origin=origin)
        phases_j, phases_reason = self._phases_j(recording, duration_s)
        return Measured(
            phases_j=phases_j,
            phases_reason=phases_reason,
            energy_j=window.energy_j,
            duration_s=duration_s,
            idle_power_w=idle_power_w,
            net_energy_j=window.net_energy_j,
            source=recording.source,
            origin=recording.origin,
            from_log=isinstance(self._meter, LogSpec),
            gaps=window.gaps,
            notes=recording.notes,
        )

    def _phases_j(
        self, recording: Recording, duration_s: float
    ) -> tuple[dict[str, float] | None, str | None]:
        """The window's energy by phase; none, and why, where the sensor is too slow to tell phases apart.

        A sensor gives means over its period, and late: of a phase that lasts n periods about 1/n of the
        energy is that of its neighbours.
        """
        if isinstance(self._meter, LogSpec) and self._meter.by_marker:
            return None, "a marker's pulse may be longer than the run by more than a phase"
        if self._lost_phases:
            return None, self._lost_phases
        changes = self._changes.read()
        starts_s = np.minimum(changes["time_s"], duration_s)
        lengths_s = np.diff(starts_s, append=duration_s)
        computing = [lengths_s[changes["phase"] == PHASES.index(name)] for name in _COMPUTING]
        if not all(map(len, computing)):
            return None, "no step ran in it"
        shortest_s = min(float(each.mean()) for each in computing)
        if shortest_s < _PHASE_PERIODS * recording.period_s:
            return None, (
                f"phases last {shortest_s:.2g} s and {recording.meter} has a new value every "
                f"{recording.period_s:g} s; {_PHASE_PERIODS} values in each are needed"
            )
        spent_j = np.diff(recording.energy_at(np.append(starts_s, duration_s)))
        spent_j[0] += float(np.diff(recording.energy_at(np.array([0.0, starts_s[0]])))[0])
        return {
            name: float(spent_j[changes["phase"] == index].sum()) for index, name in enumerate(PHASES)
        }, None

    def _idle_power_w(self, recording: Recording) -> float | None:
        """Mean power of what was recorded before the window; None where that is too little."""
        before = recording.times_s[recording.times_s < 0]
        if not len(before):
            return None
        try:  # up to the last idle sample: the line from there to the next one is no longer idle
            return recording.window(max(float(before[0]), -self._idle_s), float(before[-1])).power_w
        except EnergyError:
            return None

    def _from_log(self, spec: LogSpec) -> Recording:
        log = spec.read()
        if not spec.by_marker:
            if abs(self._wall_step_s) > _CLOCK_STEP_S:
                raise EnergyError(
                    f"this machine's clock was set by {self._wall_step_s:+.3f} s, or it slept, while "
                    f"{spec.path} was written, so the two cannot be aligned by time; use csv-marker"
                )
            return replace(log.recording(offset_s=self._wall_offset_s + self._start_s), notes=log.notes)
        begin_s, end_s = log.pulse()
        duration_s = self.duration_s
        period_s = float(np.median(np.diff(log.times_s)))
        if abs(end_s - begin_s - duration_s) > max(2 * period_s, 0.01 * duration_s):
            raise EnergyError(
                f"{spec.path}: the marker's pulse lasts {end_s - begin_s:.3f} s, the run {duration_s:.3f} s; "
                "let it rise at the run's start and fall at its end"
            )
        return log.recording(offset_s=begin_s)


@contextmanager
def gauge(
    meter: Meter | LogSpec | str, *, idle_s: float = _IDLE_S, log: PowerLog | None = None
) -> Iterator[Gauge]:
    """Take the idle power, then start a window, which ends with the block unless it was stopped before.

    The samples of a meter go to ``log`` as they come.
    """
    with ExitStack() as stack:
        recorder = None
        if not isinstance(meter, str | LogSpec):
            stack.callback(meter.close)
            recorder = stack.enter_context(Recorder(meter, log=log))
        if not isinstance(meter, str) and idle_s:
            if recorder is not None and not isinstance(meter, LogSpec):
                idle_s = max(idle_s, 1.2 * shortest_window_s(meter.period_s))
            time.sleep(idle_s)
        started = Gauge(meter, recorder, idle_s)
        if log is not None and recorder is not None:
            log.begin(started.start_s)
        try:
            yield started
        finally:
            started.stop()


def _wall_offset_s() -> float:
    """By how much the wall clock is ahead of the monotonic one: the least held up of a few readings."""
    readings = []
    for _ in range(5):
        before_s = time.monotonic()
        wall_s = time.time()
        after_s = time.monotonic()
        readings.append((after_s - before_s, wall_s - (before_s + after_s) / 2))
    return min(readings)[1]


def write_samples(recording: Recording, path: Path, *, after_s: float | None = None) -> None:
    """Write a recording's power as a CSV file that ``csv:FILE`` reads again, with what was under way.

    With ``after_s`` it is appended, as a recording that began so late, without its idle time.
    """
    times_s, powers_w = recording.power()
    marks = recording.marks[-len(times_s) :] if len(times_s) else recording.marks[:0]
    lines = "".join(
        power_line(time_s + (after_s or 0.0), power_w, mark)
        for time_s, power_w, mark in zip(times_s, powers_w, marks, strict=True)
        if after_s is None or time_s >= 0
    )
    if after_s is None or not path.exists():
        path.write_text(HEADER, encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(lines)
