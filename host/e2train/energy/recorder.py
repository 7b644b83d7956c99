# SPDX-License-Identifier: Apache-2.0
"""Samples a meter in a thread of its own, apart from what it measures."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np

from e2train.energy.meters.protocol import Meter
from e2train.energy.power_log import PowerLog, Spool
from e2train.energy.readings import Recording

__all__ = ["Recorder"]

_SAMPLE = np.dtype([("time_s", "<f8"), ("value", "<f8"), ("mark", "<i8")])
_CLOCK_STEP_S = 0.1  # of the wall clock against the monotonic one


class Recorder:
    """Reads a meter once in each of its periods, from entering the ``with`` block to its end.

    Samples go to the disk; with a log their power does, too, where others can read it. A read that fails, or
    gives no finite number, is noted and tried again; what was recorded stays.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        log: PowerLog | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.mark = -1  # what is under way
        self._meter = meter
        self._clock = clock
        self._wall = wall
        self._log = log
        self._samples = Spool(_SAMPLE)
        self._last: tuple[float, float] | None = None  # time and value
        self._notes: list[str] = []
        self._lost = 0
        self._wall_offset_s: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)

    def __enter__(self) -> Recorder:
        self.take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.take()

    def take(self) -> None:
        """Take one sample, stamped halfway between asking and the answer."""
        asked_s = self._clock()
        try:
            reading = self._meter.read()
            now_s = self._clock()
            time_s = (asked_s + now_s) / 2 if reading.time_s is None else reading.time_s
            if not (math.isfinite(reading.value) and math.isfinite(time_s)):
                raise ValueError(f"{self._meter.name} read {reading.value} at {time_s} s, no finite number")
        except Exception as error:  # drivers of meters raise what they like, and the thread must go on
            self._lose(error)
            return
        self._watch_wall_clock(now_s)
        if self._last is None or time_s > self._last[0]:  # else nothing new
            try:
                self._samples.append(time_s, reading.value, self.mark)
            except OSError as error:
                self._lose(error)
                return
            if self._log is not None:
                self._log_power(self._log, time_s, reading.value)
            self._last = time_s, reading.value

    def _lose(self, error: Exception) -> None:
        self._lost += 1
        if self._lost == 1:
            why = " ".join(str(error).split()) or type(error).__name__
            self._notes.append(f"a sample was lost: {why}")

    def recording(self) -> Recording:
        """What was recorded so far."""
        meter, samples = self._meter, self._samples.read()
        lost = (f"{self._lost} samples were lost",) if self._lost > 1 else ()
        return Recording(
            meter=meter.name,
            origin=meter.origin,
            period_s=meter.period_s,
            times_s=samples["time_s"].copy(),
            values=samples["value"].copy(),
            marks=samples["mark"].copy(),
            counts_energy=meter.counts_energy,
            wraps_at_j=meter.wraps_at_j,
            notes=(*self._notes, *lost),
        )

    def _log_power(self, log: PowerLog, time_s: float, value: float) -> None:
        """As ``Recording.power`` says: of a counter, the mean power since the last sample."""
        if not self._meter.counts_energy:
            log.add(time_s, value, self.mark)
        elif self._last is not None:
            before_s, before = self._last
            step_j = value - before
            if step_j < 0 and self._meter.wraps_at_j is not None:
                step_j += self._meter.wraps_at_j
            log.add((before_s + time_s) / 2, step_j / (time_s - before_s), self.mark)

    def _run(self) -> None:
        pause_s = self._meter.period_s
        due_s = self._clock() + pause_s
        while not self._stop.wait(max(0.0, due_s - self._clock())):
            self.take()
            due_s = max(due_s + pause_s, self._clock())  # what was missed is not made up for

    def _watch_wall_clock(self, now_s: float) -> None:
        offset_s = self._wall() - now_s
        if self._clock() - now_s > _CLOCK_STEP_S / 10:  # held up in between
            return
        if self._wall_offset_s is not None and abs(offset_s - self._wall_offset_s) > _CLOCK_STEP_S:
            step_s = offset_s - self._wall_offset_s
            self._notes.append(f"the wall clock stepped by {step_s:+.3f} s; samples keep monotonic time")
        self._wall_offset_s = offset_s
