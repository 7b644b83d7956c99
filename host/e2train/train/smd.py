# SPDX-License-Identifier: Apache-2.0
"""Stochastic mini-batch dropping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Smd"]

_STREAM = 2  # keeps these draws apart from others with the same seed and number


@dataclass(frozen=True, slots=True, kw_only=True)
class Smd:
    """Drops each step with one probability; what is drawn depends on (seed, step) alone."""

    probability: float
    seed: int

    def drops(self, step: int) -> bool:
        """Whether a step is dropped; asked before its batch is loaded.

        >>> [Smd(probability=0.5, seed=1).drops(step) for step in range(6)]
        [True, False, False, True, True, True]
        """
        draw = np.random.default_rng([self.seed, step, _STREAM]).random()
        return bool(draw < self.probability)
