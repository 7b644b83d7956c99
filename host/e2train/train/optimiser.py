# SPDX-License-Identifier: Apache-2.0
"""SGD with momentum, by gradients or by their signs; and the average of the weights on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Averager", "SignSgd", "parameter_groups"]


class SignSgd(torch.optim.Optimizer):
    """m = momentum * m + g + weight_decay * w; w -= lr * m; g is the gradient, in signed groups its sign.

    Parameters without a gradient, such as those of a block that no sample ran, keep weights and momentum.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, momentum: float, weight_decay: float) -> None:
        defaults = {"lr": 0.0, "signed": False, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                gradient = weight.grad.sign() if group["signed"] else weight.grad
                state = self.state[weight]
                moment = state.setdefault("momentum", torch.zeros_like(weight))
                moment.mul_(group["momentum"]).add_(gradient).add_(weight, alpha=group["weight_decay"])
                weight.sub_(moment, alpha=group["lr"])


def parameter_groups(
    model: nn.Module, *, lr: float, sign_lr: float | None, sign_weight_decay: float
) -> list[dict[str, Any]]:
    """All parameters with their peak learning rates; with ``sign_lr``, convolutions move by signs.

    These have a weight decay of their own, since a sign is as large at the end as at the beginning.
    """
    convolutions = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    signed = {id(weight) for weight in convolutions} if sign_lr is not None else set()
    rest = [weight for weight in model.parameters() if id(weight) not in signed]
    groups: list[dict[str, Any]] = [{"params": rest, "peak_lr": lr}]
    if sign_lr is not None:
        signs = {"peak_lr": sign_lr, "signed": True, "weight_decay": sign_weight_decay}
        groups.append({"params": convolutions, **signs})
    return groups


class Averager:
    """Stochastic weight averaging: the mean of the weights over the last part of the scheduled steps."""

    def __init__(self, model: nn.Module, *, first: int, every: int) -> None:
        """The weights after scheduled steps first, first + every, ... are averaged."""
        self._model = model
        self._first = first
        self._every = every
        self.count = 0
        self._means: dict[str, Tensor] = {}

    def see(self, step: int) -> None:
        """Take in the weights after a scheduled step, dropped or not."""
        if step < self._first or (step - self._first) % self._every:
            return
        self.count += 1
        for name, weight in self._model.named_parameters():
            mean = self._means.setdefault(name, torch.zeros_like(weight, requires_grad=False))
            mean.add_((weight.detach() - mean) / self.count)

    @torch.no_grad()
    def apply(self) -> bool:
        """Put the means into the model, if there are any."""
        for name, weight in self._model.named_parameters():
            if self.count:
                weight.copy_(self._means[name])
        return self.count > 0

    def state(self) -> dict[str, Any]:
        """What goes into a checkpoint."""
        return {"count": self.count, "means": dict(self._means)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.count = state["count"]
        weights = dict(self._model.named_parameters())
        self._means = {name: mean.to(weights[name].device) for name, mean in state["means"].items()}
