# SPDX-License-Identifier: Apache-2.0
"""Weight gradients of a backward pass: each is computed beside what the next convolution back needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from e2train.numerics.rounding import Ints
from e2train.runtime.resident.operations import Operations
from e2train.runtime.resident.queue import Later
from e2train.runtime.resident.scaled import Scaled
from e2train.runtime.resident.step import BodyGradients, ConvStep, WeightPolicy

__all__ = ["WeightGradients"]


class WeightGradients:
    """Asks a policy for the gradients of weights, and the device for what the policy wants to know.

    Where high bits are asked for once and alone, nothing waits for them: an engine computes them while the
    words of element-wise operations arrive. Else the policy is asked at once.
    """

    def __init__(
        self,
        operations: Operations,
        found: BodyGradients,
        policy: WeightPolicy,
        only: tuple[int, int] | None,
    ) -> None:
        self._ops = operations
        self._found = found
        self._policy = policy
        self._only = only
        self._waiting: Callable[[], None] | None = None
        self._asked: list[Callable[[], None]] = []

    def take(self, conv: ConvStep, gy: Scaled) -> None:
        """The output gradient of a convolution is there, until ``ask`` or another one comes."""
        integers = partial(self._integers, conv, gy)
        if self._only is None:
            self._decide(conv, gy, lambda *bits: integers(*bits).get())
        else:
            self.ask()
            self._waiting = partial(self._postpone, conv, gy, partial(integers, *self._only))

    def ask(self) -> None:
        """Have computed what waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def settle(self) -> None:
        """Ask the policy for all gradients that it was not asked for."""
        self.ask()
        for decide in self._asked:
            decide()

    def _postpone(self, conv: ConvStep, gy: Scaled, integers: Callable[[], Later[Ints]]) -> None:
        gw = integers()
        self._asked.append(partial(self._decide, conv, gy, lambda *bits: gw.get()))

    def _integers(self, conv: ConvStep, gy: Scaled, x_bits: int, g_bits: int) -> Later[Ints]:
        return self._ops.weight_gradient(conv.spec, conv.x, gy, x_bits=x_bits, g_bits=g_bits)

    def _decide(self, conv: ConvStep, gy: Scaled, integers: Callable[..., Ints]) -> None:
        scale = float(np.ldexp(1.0, conv.x.exponent + gy.exponent))
        self._found.weights[conv.spec.name] = self._policy(
            conv.spec.name, lambda *bits: conv.spec.in_model(integers(*bits)), scale
        )
