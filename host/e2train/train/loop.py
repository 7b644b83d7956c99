# SPDX-License-Identifier: Apache-2.0
"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from e2train.nn import DivergenceError
from e2train.train.session import Session

__all__ = ["Row", "evaluate", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one step reports: its number from 1, and means over its batch."""

    step: int
    steps: int
    epoch: float
    loss: float
    accuracy: float
    lr: float


def train(session: Session) -> Iterator[Row]:
    """SGD with momentum from where the session stands, one step for each row that is taken.

    Raises: DivergenceError when the loss is no longer finite.
    """
    model, optimiser, batches = session.model, session.optimiser, session.batches
    model.train()
    while session.step < session.steps:
        step = session.step
        session.step += 1
        if session.method.drops(step):
            session.steps_dropped += 1
            continue
        images, labels = batches.load(step)
        lr = session.set_lr(step)
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=session.config.label_smoothing)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        session.samples += len(labels)
        if not torch.isfinite(loss):
            raise DivergenceError(f"the loss is {loss.item()} at step {step + 1}; use a smaller --lr")
        yield Row(
            step=step + 1,
            steps=session.steps,
            epoch=(step + 1) / batches.per_epoch,
            loss=loss.item(),
            accuracy=(logits.argmax(dim=1) == labels).float().mean().item(),
            lr=lr,
        )


@torch.no_grad()
def evaluate(
    session: Session, *, batch: int = 120, stopped: Callable[[], bool] = lambda: False
) -> float | None:
    """Share of the test pictures that the model gets right; None where it was stopped on the way."""
    session.model.eval()
    right = 0
    for start in range(0, len(session.test), batch):
        if stopped():
            return None
        images, labels = session.test.take(np.arange(start, min(start + batch, len(session.test))))
        right += int((session.model(images).argmax(dim=1) == labels).sum())
    session.model.train()
    return right / len(session.test)
