# SPDX-License-Identifier: Apache-2.0
"""Everything that a run holds in memory, and how it goes into a checkpoint and comes back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from e2train.nn import Engine, ResNet, build_model, offload
from e2train.train.config import RunConfig
from e2train.train.data import Batches, Dataset, digits_split
from e2train.train.methods import METHODS, Method

__all__ = ["Session", "deterministic"]


@dataclass(slots=True, kw_only=True)
class Session:
    """A model in training: what the loop reads and moves."""

    config: RunConfig
    method: Method
    model: ResNet
    optimiser: torch.optim.Optimizer
    batches: Batches
    test: Dataset
    steps: int
    step: int = 0
    steps_dropped: int = 0
    samples: int = 0

    @classmethod
    def start(cls, config: RunConfig, engine: Engine | None) -> Session:
        """A fresh session; the model is initialised from the seed."""
        torch.manual_seed(config.seed)
        model, _ = build_model(config.preset)
        if engine is not None:
            offload(model, engine)
        split = digits_split()
        batches = Batches(split.train, batch=config.batch, seed=config.seed)
        optimiser = torch.optim.SGD(
            model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        return cls(
            config=config,
            method=METHODS[config.method],
            model=model,
            optimiser=optimiser,
            batches=batches,
            test=split.test,
            steps=config.steps or config.epochs * batches.per_epoch,
        )

    def set_lr(self, step: int) -> float:
        """Set the learning rate of a step: a linear rise to the peak, then half a cosine to zero."""
        config, warm = self.config, max(1.0, self.config.warmup * self.steps)
        lr = config.lr * min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        return lr

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "step": self.step,
            "steps_dropped": self.steps_dropped,
            "samples": self.samples,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.step, self.steps_dropped, self.samples = (
            state[key] for key in ("step", "steps_dropped", "samples")
        )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        rng: Tensor = state["rng"]
        torch.set_rng_state(rng)


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Give torch a fixed number of threads and deterministic algorithms, for a while."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(strict)
