# SPDX-License-Identifier: Apache-2.0
"""A residual network as a resident program sees it: convolutions with batch norm, blocks, stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import ConvShape
from e2train.numerics.elementwise import Kind

__all__ = ["Activation", "BlockSpec", "ConvNorm", "Network", "Shortcut", "padded_order"]

Order = NDArray[np.int64]
Activation = Literal["none", "relu", "relu6"]
# strided: every second pixel, and zeros for new channels.
Shortcut = Literal["none", "identity", "strided"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvNorm:
    """A convolution, the batch norm behind it, and an activation.

    In the device's memory channels stand in an order of their own: place i holds channel ``order[i]``. A
    depthwise convolution leaves the order as it is.
    """

    name: str
    shape: ConvShape  # of one sample
    depthwise: bool = False
    frozen: bool = False  # weights and batch norm stay as they are
    activation: Activation  # at the end of a block behind the sum with the shortcut
    in_order: Order
    out_order: Order
    _undone: tuple[Order, Order] | None = field(init=False, repr=False)  # None: no channel stands elsewhere

    def __post_init__(self) -> None:
        moved = any(bool((np.diff(order) != 1).any()) for order in (self.in_order, self.out_order))
        undone = (np.argsort(self.in_order), np.argsort(self.out_order)) if moved else None
        object.__setattr__(self, "_undone", undone)

    @property
    def kind(self) -> Kind:
        """Of the integers behind the activation."""
        return "int8" if self.activation == "none" else "uint8"

    def in_memory(self, w: NDArray[Any]) -> NDArray[Any]:
        """Weights with their channels as they stand in memory. Shapes: (K, C, R, S) or (C, 1, R, S)."""
        if self._undone is None:
            return w
        rows = w[self.out_order]
        return rows if self.depthwise else np.ascontiguousarray(rows[:, self.in_order])

    def in_model(self, gw: NDArray[Any]) -> NDArray[Any]:
        """A weight gradient with its channels as the model numbers them: ``in_memory`` undone."""
        if self._undone is None:
            return gw
        of_inputs, of_outputs = self._undone
        rows = gw[of_outputs]
        return rows if self.depthwise else rows[:, of_inputs]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockSpec:
    """activation(shortcut(x) + branch(x)), where the branch is a sequence of convolutions with batch norm.

    Stem and head are blocks without a shortcut. Of the convolution with number n, counted from 1, ``NAME.yn``
    is the result, ``NAME.an`` what is behind batch norm and activation, and with g they are the gradients;
    ``NAME.ga0`` is what the branch adds to the gradient of the block's input.
    """

    name: str
    index: int | None  # among the model's blocks; None: it always runs
    convs: tuple[ConvNorm, ...]
    shortcut: Shortcut
    stage: int  # of the result; an identity shortcut stays in its stage

    @property
    def first(self) -> ConvNorm:
        """The convolution that reads the block's input."""
        return self.convs[0]

    @property
    def last(self) -> ConvNorm:
        """The convolution in front of the sum."""
        return self.convs[-1]

    @property
    def result(self) -> str:
        """The name of what the block gives."""
        return f"{self.name}.a{len(self.convs)}"

    @property
    def learns(self) -> bool:
        """Whether some of its convolutions train."""
        return any(not conv.frozen for conv in self.convs)

    @property
    def moves(self) -> bool:
        """Whether it begins a stage: its result has a scale and a place of its own."""
        return self.shortcut != "identity"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """Blocks, the stem first; behind them channels are averaged over the pixels."""

    blocks: tuple[BlockSpec, ...]

    @property
    def convs(self) -> Iterator[ConvNorm]:
        """All convolutions, in order of use."""
        for block in self.blocks:
            yield from block.convs

    def first_learning(self, least: int) -> int | None:
        """Place of the first block from ``least`` on that trains, where a backward pass ends; or None."""
        return next((place for place in range(least, len(self.blocks)) if self.blocks[place].learns), None)

    @property
    def first(self) -> ConvNorm:
        """The convolution that reads the images."""
        return self.blocks[0].first

    @property
    def last(self) -> ConvNorm:
        """The convolution in front of the averages."""
        return self.blocks[-1].last

    @property
    def stages(self) -> int:
        """Results in a row that share one scale and one kind of integers."""
        return 1 + self.blocks[-1].stage


def padded_order(order: Order, *, front: int, channels: int) -> Order:
    """Order behind a shortcut that puts ``front`` new channels before x's and fills up to ``channels``.

    x's channels keep their places, so that the shortcut moves nothing; the new ones stand behind.

    >>> padded_order(np.array([0, 1]), front=1, channels=4).tolist()
    [1, 2, 0, 3]
    """
    kept = order + front
    return np.concatenate([kept, np.setdiff1d(np.arange(channels), kept)])
