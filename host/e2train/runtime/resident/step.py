# SPDX-License-Identifier: Apache-2.0
"""What goes into a step, what it keeps of each convolution and block, and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.elementwise import View
from e2train.numerics.rounding import Ints
from e2train.numerics.scales import Floats
from e2train.runtime.resident.network import BlockSpec, ConvNorm
from e2train.runtime.resident.norm import Moments, NormParameters
from e2train.runtime.resident.queue import Later
from e2train.runtime.resident.scaled import Scaled

__all__ = [
    "BlockStep",
    "BodyError",
    "BodyGradients",
    "Choices",
    "ConvStep",
    "Parameters",
    "WeightPolicy",
    "features",
    "through_shortcut",
]

Indices = NDArray[np.int64]
# Makes a weight gradient of a function that computes its integers from so many high bits of x and gy (0:
# all), and of their scale. Shapes: (K, C, R, S), channels in the model's order.
WeightPolicy = Callable[[str, Callable[[int, int], Ints], float], Floats]


class BodyError(ValueError):
    """A step that the device has no room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a convolution with batch norm computes with; channels in the model's order."""

    w: NDArray[np.int8]  # (K, C, R, S)
    exponent: int  # of the weights
    norm: NormParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Who decides which samples run which block, and where the backward pass ends.

    ``gates`` is asked block by block, with a function that gives the averages of the block's input (N, C); it
    returns (N,), where zero skips, or None where all samples run: without ``some`` it always does, and asks
    for no averages. ``any_rank`` says whether a flag is up on some rank. ``first`` is the place of the first
    block that is updated, where it trains.
    """

    gates: Callable[[int, Callable[[], Floats]], Floats | None]
    any_rank: Callable[[bool], bool]
    some: bool = True
    first: int = 0


@dataclass(slots=True, kw_only=True)
class BodyGradients:
    """Gradients by the name of a convolution, and of each gate; channels in the model's order."""

    weights: dict[str, Floats] = field(default_factory=dict)
    norm_weights: dict[str, Floats] = field(default_factory=dict)
    norm_biases: dict[str, Floats] = field(default_factory=dict)
    gates: dict[int, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvStep:
    """A convolution with batch norm in this step: what went in, what came out, and scale*y + offset.

    w has its channels as they stand in memory.
    """

    spec: ConvNorm
    w: NDArray[np.int8]
    w_exponent: int
    norm: NormParameters
    x: Scaled
    y: Scaled
    moments: Moments
    scale: Floats
    offset: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockStep:
    """A block in this step; where no rank had samples for it, there is no branch."""

    spec: BlockSpec
    x: Scaled
    kept: Indices
    skipped: Indices
    gated: bool
    branch: tuple[ConvStep, ...]


def through_shortcut(spec: BlockSpec, x: Scaled, view: View) -> Scaled | None:
    """What a shortcut adds to a branch: x, or where it begins a stage a view of x."""
    if spec.shortcut == "none":
        return None
    return x.seen(view) if spec.moves else x


def features(x: Scaled, sums: Later[Ints], order: Indices) -> Floats:
    """Averages over the pixels, from sums of integers; channels as the model numbers them. Shapes: (N, C)."""
    means: Floats = np.ldexp(sums.get() / (x.tensor.H * x.tensor.W), x.exponent)
    values = np.empty_like(means)
    values[:, order] = means
    return values
