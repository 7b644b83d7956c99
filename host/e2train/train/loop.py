# SPDX-License-Identifier: Apache-2.0
"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from e2train.devices import DeviceError, StepLostError
from e2train.nn import DivergenceError, NonFiniteInputError
from e2train.runtime import ExecutionStopped
from e2train.train.evaluation import Confusion, classify
from e2train.train.ranks import average_statistics, combine_gradients
from e2train.train.session import Session

__all__ = ["Row", "evaluate", "finish", "train"]

_T = TypeVar("_T")

_NORM_BATCHES = 16  # from which batch norm's statistics are re-estimated for averaged weights
_TRIES = 3  # of a step that the device loses


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one step reports: its number from 1, and means over its batch."""

    step: int  # from 1 on; dropped steps have no row
    steps: int  # scheduled
    epoch: float  # passes over the data so far, dropped batches included
    loss: float  # mean over the batch
    accuracy: float  # share of the batch that is classified right
    lr: float  # learning rate
    blocks_run: float  # share of the block executions
    energy_saved: float | None = None  # so far, modelled: share of the same in float32 with nothing saved


def train(session: Session) -> Iterator[Row]:
    """Train from where the session stands, one executed step for each row that is taken.

    Raises: DivergenceError naming the step, when the loss or what it depends on is no longer finite;
        ExecutionStopped, when the step under way was given up: the session stands at its begin.
    """
    session.model.train()
    while session.step < session.steps:
        step = session.step
        row = None
        if session.smd.drops(step):
            session.steps_dropped += 1
        else:
            try:
                row = _attempt(session, partial(_execute, session, step))
            except NonFiniteInputError as error:  # the images are finite
                raise DivergenceError(
                    f"step {step + 1}: {error.args[0]}: training diverged; use a smaller --lr"
                ) from error
            except DivergenceError as error:
                raise DivergenceError(f"step {step + 1}: {error}") from error
        session.averager.see(step)
        session.step += 1
        if row is not None:
            yield row


def _attempt(session: Session, compute: Callable[[], _T]) -> _T:
    """A step, or what changes less; where the device loses it on the way, again from its begin.

    Other ranks would not begin it again: with several the first failure is the end.
    """
    take_back = session.undo()
    for _ in range(_TRIES):
        try:
            return compute()
        except ExecutionStopped:
            take_back()
            raise
        except StepLostError as error:
            take_back()
            if session.group.size > 1:
                raise
            lost = error
    raise DeviceError(f"{lost} (step tried {_TRIES} times)") from lost


def _execute(session: Session, step: int) -> Row:
    """One step: load, forward, backward, move."""
    model, optimiser, batches, group = session.model, session.optimiser, session.batches, session.group
    images, labels = (tensor.to(session.host) for tensor in batches.load(step))
    lr = session.set_lr(step)
    model.policy.step = step
    model.first_updated = session.partial_backward.first(step)
    session.enter("forward")
    logits = model(images)
    samples = batches.size(step)  # over all ranks, each of which adds its part to the mean
    smoothing = session.config.label_smoothing
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum") / samples
    penalty = model.policy.penalty()
    optimiser.zero_grad()
    session.enter("backward")
    (loss if penalty is None else loss + penalty / group.size).backward()  # type: ignore[no-untyped-call]
    session.enter("idle")
    combine_gradients(model, group)
    optimiser.step()
    average_statistics(model, group)
    right = (logits.argmax(dim=1) == labels).sum()
    total_loss, total_right, *runs = group.sum(
        torch.tensor([loss.item(), right.item(), *model.runs])
    ).tolist()
    session.count(samples, [int(run) for run in runs])
    if not math.isfinite(total_loss):
        raise DivergenceError(f"the loss is {total_loss}; use a smaller --lr")
    for name, weight in model.named_parameters():
        if weight.grad is not None and not weight.grad.isfinite().all():
            raise DivergenceError(f"the gradient of {name} is not finite; use a smaller --lr")
    return Row(
        step=step + 1,
        steps=session.steps,
        epoch=(step + 1) / batches.per_epoch,
        loss=total_loss,
        accuracy=total_right / samples,
        lr=lr,
        blocks_run=sum(runs) / (samples * len(runs)),
    )


@torch.no_grad()
def finish(session: Session, *, stopped: Callable[[], bool] = lambda: False) -> None:
    """Put the averaged weights into the model, where there are any, with batch statistics of their own."""
    if not session.averager.apply():
        return
    session.model.train()
    norms = [
        module for module in session.model.modules() if isinstance(module, nn.BatchNorm2d) and module.training
    ]
    if not norms:  # they are frozen
        return
    before = [(norm.running_mean, norm.running_var, norm.momentum) for norm in norms]
    for norm in norms:
        norm.running_mean, norm.running_var = norm.running_mean.clone(), norm.running_var.clone()  # type: ignore[union-attr]
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    session.model.policy.eval()
    for step in range(session.steps, session.steps + min(_NORM_BATCHES, session.batches.per_epoch)):
        if stopped():
            return
        if 2 * session.batches.size(step) < session.config.batch and session.batches.per_epoch > 1:
            continue  # its statistics would count as much as those of a whole batch
        images, _ = session.batches.load(step)
        _attempt(session, partial(session.model, images.to(session.host)))
    average_statistics(session.model, session.group, by_batches=True)
    for norm, (mean, variance, momentum) in zip(norms, before, strict=True):
        if not norm.num_batches_tracked:  # of a block that no sample ran
            norm.running_mean, norm.running_var = mean, variance
        norm.momentum = momentum


def evaluate(
    session: Session, *, batch: int = 120, stopped: Callable[[], bool] = lambda: False
) -> Confusion | None:
    """What the model takes the images of the test set for; None where it was stopped on the way."""
    compute = partial(
        classify,
        session.model,
        session.test,
        classes=len(session.names),
        count=session.config.test_images,
        batch=batch,
        host=session.host,
        group=session.group,
        stopped=stopped,
    )
    confusion = _attempt(session, compute)
    session.model.train()
    return confusion
