# SPDX-License-Identifier: Apache-2.0
"""Residual networks whose blocks can be skipped, sample by sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn

from e2train.nn.parallel import Group
from e2train.nn.skipping import RunAll, SkipPolicy

if TYPE_CHECKING:
    from e2train.nn.resident import ResidentBody

__all__ = ["PaddedShortcut", "ResidualBlock", "ResidualNet"]


class PaddedShortcut(nn.Module):
    """A shortcut without parameters: every ``stride``-th pixel, new channels filled with zeros."""

    def __init__(self, new_channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.front = new_channels // 2
        self.back = new_channels - self.front

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (N, C, H, W) -> (N, K, P, Q)."""
        strided = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(strided, (0, 0, 0, 0, self.front, self.back))


class ResidualBlock(nn.Module):
    """activation(shortcut(x) + gate * branch(x)); without a shortcut, activation(branch(x)).

    The branch sees only the samples whose gate is not zero; the shortcut sees all.
    """

    def __init__(
        self, branch: nn.Sequential, *, shortcut: nn.Module | None, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.activation = activation or nn.Identity()
        self.group = Group()

    @property
    def in_channels(self) -> int:
        """Channels of what comes in."""
        first = next(module for module in self.branch.modules() if isinstance(module, nn.Conv2d))
        return first.in_channels

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """Shapes: x (N, C, H, W), gate (N,) or None where all samples run; result (N, K, P, Q)."""
        if self.shortcut is None:
            out: Tensor = self.branch(x)
        elif gate is None:
            out = self.shortcut(x) + self.branch(x)
        else:
            out = self._gated(x, gate)
        activated: Tensor = self.activation(out)
        return activated

    def _gated(self, x: Tensor, gate: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x)  # type: ignore[misc]  # the caller has looked
        kept = gate.detach().nonzero().squeeze(1)
        runs_somewhere = self.group.any(len(kept) > 0) if self.training else len(kept) > 0
        if not runs_somewhere:
            return out
        values = len(kept) * out.shape[2] * out.shape[3]  # in a channel: one alone has no variance
        with _statistics_move_less(self.branch, len(kept) / len(x) if values > 1 else 0.0):
            branch = self.branch(x if len(kept) == len(x) else x[kept])
        return out.index_add(0, kept, gate[kept].view(-1, 1, 1, 1) * branch)


class ResidualNet(nn.Module):
    """A stem, residual blocks, a head; ``policy`` says which samples run which blocks.

    The first block always runs, and so does a frozen one or one without a shortcut; without
    ``skips_stage_starts`` also one that begins a stage, whose shortcut loses pixels and has nothing for new
    channels. ``runs`` says, after a forward pass, how many samples ran each block. In training a backward
    pass ends at the stem where ``first_updated`` is 0, at block n - 1 where it is n; layers before that get
    no gradient.
    """

    def __init__(self, *, stem: nn.Module, blocks: list[ResidualBlock], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.head = head
        self.frozen: tuple[str, ...] = ()  # stem and blocks that stay as they are
        self.policy: SkipPolicy = RunAll()
        self.skips_stage_starts = True
        self.runs: tuple[int, ...] = ()
        self.first_updated = 0
        self.resident: ResidentBody | None = None  # computes all but the classifier, where it is set
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    @property
    def skippable(self) -> tuple[int, ...]:
        """Indices of the blocks that may be skipped."""
        return tuple(
            index
            for index, block in enumerate(self.blocks)
            if index and self._may_skip(block) and f"blocks.{index}" not in self.frozen
        )

    def _may_skip(self, block: nn.Module) -> bool:
        return isinstance(block.shortcut, nn.Module if self.skips_stage_starts else nn.Identity)

    def train(self, mode: bool = True) -> ResidualNet:
        """Training mode, but for the batch norms of frozen layers, or evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            for module in self.get_submodule(name).modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Shapes: (N, C, H, W) -> logits (N, classes).

        Raises: ValueError when no stem or block is ``first_updated``.
        """
        if self.first_updated not in range(1 + len(self.blocks)):
            raise ValueError(f"first_updated must be in 0..{len(self.blocks)}, not {self.first_updated}")
        if self.resident is not None:
            averages, self.runs = self.resident.run(self, images)
            classified: Tensor = self.head[-1](averages)  # type: ignore[index]
            return classified
        x = self.stem(images)
        skippable = self.skippable
        self.policy.begin(x)
        runs = []
        for index, block in enumerate(self.blocks):
            if self.training and index + 1 == self.first_updated:
                x = x.detach()
            gate = self.policy.gate(index, x) if index in skippable else None
            runs.append(len(x) if gate is None else int(gate.detach().count_nonzero()))
            x = block(x, gate)
        self.runs = tuple(runs)
        logits: Tensor = self.head(x)
        return logits


@contextmanager
def _statistics_move_less(branch: nn.Module, share: float) -> Iterator[None]:
    """Scale the updates of batch norms' running statistics by the share of the samples that are there.

    With a share of 0 they do not move at all, and normalise: without any samples, which happens where another
    rank has some, and for a single pixel.
    """
    norms = [module for module in branch.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.training) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = None if norm.momentum is None else norm.momentum * share
            norm.training = norm.training and share > 0
        yield
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum, norm.training = momentum, training
