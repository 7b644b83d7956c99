# SPDX-License-Identifier: Apache-2.0
"""Which samples run which residual blocks: all, some by chance, or those that a learned gate lets through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["GatedSkip", "RunAll", "SkipPolicy", "StochasticDepth"]

_EMBED = 10
_HIDDEN = 10
_OPEN = 1.0  # a gate's first bias: all gates start open


class SkipPolicy(nn.Module):
    """Asked block by block for the gates of a batch; ``step`` is the number of the training step."""

    step: int = 0

    def begin(self, x: Tensor) -> None:
        """A new batch. Shapes: x (N, C, H, W)."""

    def gate(self, index: int, x: Tensor) -> Tensor | None:
        """Gates of block ``index`` on input x: (N,), or None where all samples run."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """What is added to the loss of the batch, to steer how many blocks run."""
        return None


class RunAll(SkipPolicy):
    """No block is skipped."""

    def gate(self, index: int, x: Tensor) -> Tensor | None:
        return None


class StochasticDepth(SkipPolicy):
    """Whole batches skip blocks by chance, later blocks more often; testing runs all, scaled.

    ``skip`` is the expected share over all ``blocks`` of a network, of which only the ``skippable`` skip.
    Source: Huang et al., Deep Networks with Stochastic Depth (arXiv:1603.09382).
    """

    def __init__(self, skippable: Sequence[int], *, blocks: int, skip: float, seed: int) -> None:
        super().__init__()
        if blocks < 2:
            raise ValueError(f"of {blocks} blocks none can be skipped; use RunAll")
        self.blocks = blocks
        self.most = sum(skippable) / (blocks * (blocks - 1))  # the largest share that can be skipped
        self.last_skip = skip / self.most if self.most else 0.0  # the end of a line from 0 at the first block
        self.seed = seed

    def survival(self, index: int) -> float:
        """Probability that a block runs.

        Raises: ValueError when blocks cannot skip as much.

        >>> policy = StochasticDepth(range(1, 5), blocks=5, skip=0.25, seed=0)
        >>> [policy.survival(index) for index in range(5)]
        [1.0, 0.875, 0.75, 0.625, 0.5]
        """
        if not 0 <= self.last_skip <= 1:
            raise ValueError(f"skip must be from 0 to {self.most:g} here, the most that blocks can skip")
        return 1 - self.last_skip * index / (self.blocks - 1)

    def gate(self, index: int, x: Tensor) -> Tensor:
        survival = self.survival(index)
        if not self.training:
            return x.new_full((len(x),), survival)
        draw = np.random.default_rng([self.seed, self.step, index]).random()
        return x.new_full((len(x),), float(draw < survival))


class GatedSkip(SkipPolicy):
    """One LSTM for all blocks decides from pooled features, sample by sample, whether a block's branch runs.

    A decision is the rounded probability; its gradient is taken as the probability's. The gates look at the
    features but do not train them. ``penalty`` pulls the share of skipped executions, over all blocks and
    samples, towards ``skip``, through open and closed gates alike.
    Source: E2-Train (arXiv:1910.13349), selective layer update.
    """

    def __init__(self, channels: dict[int, int], *, blocks: int, skip: float, weight: float) -> None:
        """``channels`` of the input of each block that has a gate."""
        super().__init__()
        self.embed = nn.ModuleDict(
            {str(index): nn.Linear(count, _EMBED) for index, count in channels.items()}
        )
        self.lstm = nn.LSTMCell(_EMBED, _HIDDEN)
        self.out = nn.Linear(_HIDDEN, 1)
        nn.init.constant_(self.out.bias, _OPEN)
        self.most = len(channels) / blocks  # the largest share that can be skipped
        self.skip = skip
        self.weight = weight
        self._state: tuple[Tensor, Tensor] | None = None
        self._gates: list[Tensor] = []

    def __getstate__(self) -> dict[str, Any]:
        """A copy does not have the gates of the batch."""
        return {**self.__dict__, "_state": None, "_gates": []}

    def begin(self, x: Tensor) -> None:
        self._state = None
        self._gates = []

    def gate(self, index: int, x: Tensor) -> Tensor:
        features = self.embed[str(index)](x.detach().mean(dim=(2, 3)))
        self._state = self.lstm(features, self._state)
        probability = torch.sigmoid(self.out(self._state[0])).squeeze(1)
        decision = (probability.detach() > 0.5).to(probability.dtype)
        gate: Tensor = decision + (probability - probability.detach())
        self._gates.append(gate)
        return gate

    def penalty(self) -> Tensor | None:
        if not self._gates:
            return None
        skipped = self.most * (1 - torch.stack(self._gates).mean())
        return self.weight * (skipped - self.skip) ** 2
