# SPDX-License-Identifier: Apache-2.0
"""Recordings of power, and a meter that says what a test says."""

from __future__ import annotations

import numpy as np
from e2train.energy import Recording
from e2train.energy.meters import Reading

__all__ = ["Scripted", "power"]


def power(times_s, values=None, **options) -> Recording:
    times_s = np.asarray(times_s, np.float64)
    values = np.full(len(times_s), 3.0) if values is None else np.asarray(values, np.float64)
    marks = np.zeros(len(times_s), np.int64)
    return Recording(
        **{"meter": "m", "origin": "measured", "period_s": 0.1} | options,
        times_s=times_s,
        values=values,
        marks=marks,
    )


class Scripted:
    """A meter that says one thing after another; an exception is raised."""

    name, origin, period_s, counts_energy, wraps_at_j = "scripted", "measured", 0.1, False, None

    def __init__(self, *says):
        self.says = iter(says)

    def read(self):
        said = next(self.says)
        if isinstance(said, Exception):
            raise said
        return Reading(said)

    def close(self):
        pass
