# SPDX-License-Identifier: Apache-2.0
"""Starting a training from the weights of another."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from e2train.nn import Group, ResidualNet, share, whole_state
from e2train.train.config import RunConfig
from e2train.train.errors import TrainError
from e2train.train.hashing import state_sha256
from e2train.train.trained import find_weights

__all__ = ["load_state", "start_weights"]

# Parts whose every tensor must be there; ranges of inputs, scales and gates are taken where they fit.
_PARTS = ("stem.", "blocks.", "head.")


def start_weights(config: RunConfig, *, resume: bool) -> tuple[RunConfig, dict[str, Tensor] | None]:
    """The weights to start from, and the settings with their hash; None for a fresh start, or to resume.

    Raises: TrainError when they are not there, or others than the settings say.
    """
    if not config.init or (resume and config.init_sha256):
        return config, None
    weights = find_weights(Path(config.init))
    found = state_sha256(weights)
    if config.init_sha256 not in ("", found):
        raise TrainError(
            f"init: {config.init} holds weights with SHA-256 {found[:12]}..., the settings say "
            f"{config.init_sha256[:12]}...; give --init the run that is meant"
        )
    return config.changed(init_sha256=found), None if resume else weights


def load_state(
    model: ResidualNet, weights: dict[str, Tensor], *, origin: str, group: Group | None = None
) -> None:
    """Take over weights, batch norm and whatever else fits; a classifier of another size stays new.

    Raises: TrainError when the model is another one.
    """
    own = whole_state(model)
    last = max(name for name, module in model.head.named_modules() if isinstance(module, nn.Linear))
    classifier = [f"head.{last}.weight", f"head.{last}.bias"]
    kept_classifier = all(name in weights and weights[name].shape == own[name].shape for name in classifier)
    taken = {}
    for name, tensor in own.items():
        fits = name in weights and (weights[name].shape, weights[name].dtype) == (tensor.shape, tensor.dtype)
        if fits and (name not in classifier or kept_classifier):
            taken[name] = weights[name]
        elif name.startswith(_PARTS) and name not in classifier and "sign_quant." not in name:
            there = tuple(weights[name].shape) if name in weights else "not there"
            raise TrainError(
                f"{origin} is of another model: {name} is {there}, this model's is {tuple(tensor.shape)}; "
                "take a run of the same model, with images of as many channels"
            )
    model.load_state_dict(own | taken)
    share(model, group or Group())  # Brevitas has made its quantisers anew
