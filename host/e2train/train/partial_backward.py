# SPDX-License-Identifier: Apache-2.0
"""Backward passes that end before early blocks, whose activations are large and whose weights are few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["PartialBackward"]

_STREAM = 5  # keeps these draws apart from others with the same seed and number


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialBackward:
    """How far the backward pass of each step goes; what is drawn depends on (seed, step) alone.

    A share ``stem`` of the steps updates the stem, every step the last of the ``blocks``; each block in
    between is updated in a constant factor more steps than the one before.
    """

    stem: float
    blocks: int
    seed: int

    def share(self, place: int) -> float:
        """The share of the steps that update the stem (0), or block ``place - 1``.

        >>> updates = PartialBackward(stem=0.0625, blocks=2, seed=0)
        >>> [updates.share(place) for place in range(3)]
        [0.0625, 0.25, 1.0]
        """
        return float(self.stem ** (1 - place / self.blocks))

    def first(self, step: int) -> int:
        """The first place that a step updates.

        >>> updates = PartialBackward(stem=0.0625, blocks=2, seed=0)
        >>> [updates.first(step) for step in range(8)]
        [2, 2, 2, 2, 0, 1, 1, 2]
        """
        if self.stem == 1:
            return 0
        draw = np.random.default_rng([self.seed, step, _STREAM]).random()
        return next(place for place in range(self.blocks + 1) if draw < self.share(place))
