# SPDX-License-Identifier: Apache-2.0
"""A residual network as a resident program sees it: convolutions with batch norm, blocks, stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import ConvShape

__all__ = ["BlockSpec", "ConvNorm", "Network", "padded_order"]

Order = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvNorm:
    """A convolution and the batch norm behind it.

    In the device's memory channels stand in an order of their own: place i holds channel ``order[i]``.
    """

    name: str
    shape: ConvShape  # of one sample
    in_order: Order
    out_order: Order

    @property
    def reordered(self) -> bool:
        """Whether some channel stands elsewhere than in the model."""
        return any(bool((np.diff(order) != 1).any()) for order in (self.in_order, self.out_order))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockSpec:
    """relu(shortcut(x) + second(relu(first(x)))); a strided shortcut fills new channels with zeros."""

    index: int
    first: ConvNorm
    second: ConvNorm
    stage: int  # of the result; an identity shortcut stays in its stage

    @property
    def moves(self) -> bool:
        """Whether it begins a stage: its shortcut takes every second pixel, and zeros for new channels."""
        return self.first.shape.stride != (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """Stem and blocks; behind them channels are averaged over the pixels."""

    stem: ConvNorm
    blocks: tuple[BlockSpec, ...] = field(default=())

    @property
    def convs(self) -> Iterator[ConvNorm]:
        """All convolutions, in order of use."""
        yield self.stem
        for block in self.blocks:
            yield block.first
            yield block.second

    @property
    def last(self) -> ConvNorm:
        """The convolution in front of the averages."""
        return self.blocks[-1].second if self.blocks else self.stem

    @property
    def stages(self) -> int:
        """Sizes of picture that the blocks work on."""
        return 1 + max((block.stage for block in self.blocks), default=0)


def padded_order(order: Order, *, front: int, channels: int) -> Order:
    """Order behind a shortcut that puts ``front`` new channels before x's and fills up to ``channels``.

    x's channels keep their places, so that the shortcut moves nothing; the new ones stand behind.

    >>> padded_order(np.array([0, 1]), front=1, channels=4).tolist()
    [1, 2, 0, 3]
    """
    kept = order + front
    return np.concatenate([kept, np.setdiff1d(np.arange(channels), kept)])
