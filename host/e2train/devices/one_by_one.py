# SPDX-License-Identifier: Apache-2.0
"""The operations of a resident device, by one method that computes any of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from e2train.devices.protocol import Counters
from e2train.devices.resident import Affine, Convolution, Operation, Reduction, WeightGradient
from e2train.numerics.elementwise import Written
from e2train.numerics.rounding import Ints

__all__ = ["OneByOne"]


class OneByOne(ABC):
    """Operations whose outcomes are wanted at once; the others go into batches."""

    _counters: Counters  # of what was executed since it was last asked for

    @abstractmethod
    def compute_one(self, call: Operation) -> Any:
        """The outcome of an operation, entered in the counters."""

    def convolve(self, call: Convolution) -> Written:
        """Compute a convolution into the memory."""
        written: Written = self.compute_one(call)
        return written

    def weight_gradient(self, call: WeightGradient) -> Ints:
        """The weight gradient, int64 (K, C, R, S), or (C, 1, R, S) of a depthwise convolution."""
        gw: Ints = self.compute_one(call)
        return gw

    def affine(self, call: Affine) -> Written:
        """Compute an affine operation into the memory."""
        written: Written = self.compute_one(call)
        return written

    def reduce(self, call: Reduction) -> tuple[Ints, Ints]:
        """Sums of u and u*v, int64 (C,) each, or (N, C) per sample."""
        sums: tuple[Ints, Ints] = self.compute_one(call)
        return sums

    def take_counters(self) -> Counters:
        """What was executed since this was last asked."""
        counters, self._counters = self._counters, Counters()
        return counters
