# SPDX-License-Identifier: Apache-2.0
"""Layers of a residual network that stay as they are while the others train."""

from __future__ import annotations

import re

from e2train.nn.models import ModelError
from e2train.nn.residual import ResidualNet

__all__ = ["freeze"]


def freeze(model: ResidualNet, layers: str) -> None:
    """Freeze ``stem`` and blocks such as ``stem,blocks.0-2,blocks.5``: weights and batch norm stay.

    What is frozen already stays so. Frozen layers get no weight gradients, and no input gradients where
    nothing before them trains. A frozen block always runs, as nothing would train its gate.

    Raises: ModelError when there are no such layers.

    >>> from e2train.nn import digits_net
    >>> model = digits_net()
    >>> freeze(model, "stem,blocks.0-1")
    >>> model.skippable
    (2, 3)
    """
    parts = [part for name in filter(None, layers.split(",")) for part in _parts(model, name.strip())]
    for part in parts:
        model.get_submodule(part).requires_grad_(False)
    model.frozen = tuple(dict.fromkeys((*model.frozen, *parts)))
    model.train(model.training)


def _parts(model: ResidualNet, name: str) -> list[str]:
    if name == "stem":
        return [name]
    match = re.fullmatch(r"blocks\.(\d+)(?:-(\d+))?", name)
    if match is None:
        raise ModelError(f"freeze takes stem, blocks.N and blocks.N-M, not {name!r}")
    first, last, count = int(match[1]), int(match[2] or match[1]), len(model.blocks)
    if not first <= last < count:
        raise ModelError(f"freeze: {name} is not within blocks.0-{count - 1}")
    return [f"blocks.{index}" for index in range(first, last + 1)]
