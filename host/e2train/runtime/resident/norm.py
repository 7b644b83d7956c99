# SPDX-License-Identifier: Apache-2.0
"""Batch norm's arithmetic per channel, in float64 on exact sums of integers.

Only additions, multiplications, divisions and square roots of single elements, which IEEE 754 rounds alike on
every machine: no float is ever summed up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.rounding import Ints
from e2train.numerics.scales import Floats

__all__ = ["Moments", "NormGradient", "NormParameters", "moments", "norm_gradient"]

Order = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormParameters:
    """What a batch norm knows: weight and bias, running statistics, epsilon; in float64 (K,)."""

    weight: Floats
    bias: Floats
    running_mean: Floats
    running_var: Floats
    eps: float

    def ordered(self, order: Order) -> NormParameters:
        """The same with channels in another order."""
        return NormParameters(
            weight=self.weight[order],
            bias=self.bias[order],
            running_mean=self.running_mean[order],
            running_var=self.running_var[order],
            eps=self.eps,
        )

    @property
    def running(self) -> Moments:
        """The statistics that an evaluation normalises with."""
        return Moments(mean=self.running_mean, var=self.running_var, count=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """Mean and biased variance of each channel over ``count`` values."""

    mean: Floats
    var: Floats
    count: int

    def ordered(self, order: Order) -> Moments:
        """The same with channels in another order."""
        return Moments(mean=self.mean[order], var=self.var[order], count=self.count)

    def affine(self, norm: NormParameters) -> tuple[Floats, Floats]:
        """``scale`` and ``offset`` with which batch norm is scale*y + offset."""
        scale = norm.weight / np.sqrt(self.var + norm.eps)
        return scale, norm.bias - scale * self.mean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormGradient:
    """Gradients of weight and bias, and the coefficients of gy = a*g + b*y + d."""

    weight: Floats
    bias: Floats
    a: Floats
    b: Floats
    d: Floats


def moments(sums: Ints, squares: Ints, *, count: int, exponent: int) -> Moments:
    """From the sums of integers and of their squares, over ``count`` values each.

    >>> found = moments(np.array([6]), np.array([14]), count=3, exponent=1)
    >>> found.mean.tolist(), found.var.tolist()
    ([4.0], [2.6666666666666665])
    """
    n = max(count, 1)
    mean = sums / n
    # The variance as one quotient of integers: nothing is lost where the mean is large.
    spread = np.array([n * int(sq) - int(s) ** 2 for s, sq in zip(sums, squares, strict=True)], object)
    var = np.array([part / (n * n) for part in spread], np.float64)
    return Moments(mean=np.ldexp(mean, exponent), var=np.ldexp(var, 2 * exponent), count=count)


def norm_gradient(sum_g: Floats, sum_gy: Floats, y: Moments, norm: NormParameters) -> NormGradient:
    """From the sums of the gradient g behind batch norm and of its products with y.

    >>> y = Moments(mean=np.array([1.0]), var=np.array([4.0]), count=2)
    >>> one, zero = np.ones(1), np.zeros(1)
    >>> norm = NormParameters(weight=one, bias=zero, running_mean=zero, running_var=one, eps=0.0)
    >>> found = norm_gradient(np.array([1.0]), np.array([3.0]), y, norm)
    >>> found.weight.tolist(), found.a.tolist(), found.b.tolist(), found.d.tolist()
    ([1.0], [0.5], [-0.125], [-0.125])
    """
    n = max(y.count, 1)
    inverse = 1 / np.sqrt(y.var + norm.eps)
    weight = inverse * (sum_gy - y.mean * sum_g)
    a = norm.weight * inverse
    b = -(a * inverse * weight / n)
    return NormGradient(weight=weight, bias=sum_g, a=a, b=b, d=-(a * sum_g / n) - b * y.mean)
