# SPDX-License-Identifier: Apache-2.0
"""Energy by phase of a step: all of it, or a reason why it is not known."""

import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from e2train.energy import Gauge, gauge
from recordings import Scripted, power


@pytest.fixture
def phased(monkeypatch):
    """A gauge over two steps: 1 s idle at 5 W, 2 s forward at 10 W, 3 s backward at 20 W."""

    def make(period_s):
        clock = SimpleNamespace(now_s=100.0)
        own = SimpleNamespace(monotonic=lambda: clock.now_s, time=time.time)
        monkeypatch.setattr(sys.modules[Gauge.__module__], "time", own)
        times_s = np.arange(-2, 12 + period_s, period_s)
        powers_w = np.array([5, 10, 10, 20, 20, 20])[(np.floor(times_s + 1e-9) % 6).astype(int)]
        recorded = power(times_s + 100, powers_w, period_s=period_s)
        measuring = Gauge(Scripted(), SimpleNamespace(recording=lambda: recorded), idle_s=2.0)
        for phase, duration_s in (("idle", 1), ("forward", 2), ("backward", 3)) * 2:
            measuring.enter(phase)
            clock.now_s += duration_s
        measuring.stop()
        return measuring.measured()

    return make


def test_energy_by_phase_is_all_of_it(phased):
    found = phased(0.01)
    assert found.phases_reason is None
    for name, want in (("idle", 10), ("forward", 40), ("backward", 120)):
        assert found.phases_j[name] == pytest.approx(want, abs=0.3), name  # lines between samples
    assert sum(found.phases_j.values()) == pytest.approx(found.energy_j, rel=1e-12)


def test_a_sensor_too_slow_for_phases_says_so(phased):
    """By the shorter of the two: forward lasts 2 s, backward 3."""
    assert phased(0.2).phases_reason is None
    found = phased(0.25)
    assert found.energy_j is not None
    assert found.phases_j is None
    assert found.phases_reason == (
        "phases last 2 s and m has a new value every 0.25 s; 10 values in each are needed"
    )


def test_a_disk_that_is_full_costs_samples_and_phases_and_no_step(phased, monkeypatch):
    monkeypatch.setattr("os.pwrite", lambda file, raw, at: len(raw) - 1)
    with gauge(Scripted(*[2.0] * 50), idle_s=0) as running:
        running.enter("forward")
    assert running.measured().notes[0] == "a sample was lost: [Errno 28] No space left on device"
    assert phased(0.01).phases_reason == "a phase was lost: No space left on device"
