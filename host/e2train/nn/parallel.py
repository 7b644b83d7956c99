# SPDX-License-Identifier: Apache-2.0
"""Ranks that train together: what they exchange, so that all of them compute with the same numbers.

Every rank enters every exchange, whether or not it has samples for the block in question.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Group", "Processes", "pack_signs", "share", "unpack_signs"]

_CODES_PER_BYTE = 4  # a sign takes two bits


class Group:
    """One process alone: every exchange gives back what it was given."""

    rank = 0
    size = 1

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over the ranks."""
        return values

    def max(self, values: Tensor) -> Tensor:
        """Element-wise maximum over the ranks, infinity where one of several has a NaN."""
        return values

    def vote(self, signs: Tensor) -> Tensor:
        """The sign that most ranks have, 0 for a tie; two bits per sign travel."""
        return signs

    def texts(self, text: str) -> list[str]:
        """Every rank's text, in the order of the ranks."""
        return [text]

    def any(self, flag: bool) -> bool:
        """Whether some rank has the flag up."""
        return bool(self.max(torch.tensor(int(flag))))


class Processes(Group):
    """The ranks of ``torch.distributed``, which must be set up."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def sum(self, values: Tensor) -> Tensor:
        return self._reduced(values, dist.ReduceOp.SUM)

    def max(self, values: Tensor) -> Tensor:
        # A comparison with NaN is false either way: gloo would lose it.
        comparable = values.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
        return self._reduced(comparable, dist.ReduceOp.MAX)

    def vote(self, signs: Tensor) -> Tensor:
        packed = pack_signs(signs)
        all_packed = [torch.empty_like(packed) for _ in range(self.size)]
        dist.all_gather(all_packed, packed)
        total = sum(unpack_signs(one, signs.numel()) for one in all_packed)
        assert isinstance(total, Tensor)
        return total.sign().reshape(signs.shape).to(signs)

    def texts(self, text: str) -> list[str]:
        raw = torch.from_numpy(np.frombuffer(text.encode(), np.uint8).copy())
        longest = int(self.max(torch.tensor(raw.numel())))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: raw.numel()] = raw
        all_padded = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(all_padded, padded)
        return [one.numpy().tobytes().rstrip(b"\0").decode() for one in all_padded]

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        reduced = values.detach().cpu().clone()  # gloo works in the host's memory
        dist.all_reduce(reduced, operation)
        return reduced.to(values.device)


def share(model: nn.Module, group: Group) -> None:
    """Let everything in a model that must agree over the ranks ask ``group``."""
    for module in model.modules():
        if isinstance(getattr(module, "group", None), Group):
            module.group = group  # type: ignore[assignment]


def pack_signs(signs: Tensor) -> Tensor:
    """Signs as two bits each, four in a byte.

    >>> pack_signs(torch.tensor([1, -1, 0, 1, -1])).tolist()
    [146, 84]
    """
    codes = torch.ones(-(-signs.numel() // _CODES_PER_BYTE) * _CODES_PER_BYTE, dtype=torch.uint8)
    codes[: signs.numel()] = (signs.flatten() + 1).to(torch.uint8)
    places = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)
    return (codes.view(-1, _CODES_PER_BYTE) << places).sum(dim=1).to(torch.uint8)


def unpack_signs(packed: Tensor, count: int) -> Tensor:
    """The first ``count`` signs.

    >>> unpack_signs(pack_signs(torch.tensor([1, -1, 0, 1, -1])), 5).tolist()
    [1, -1, 0, 1, -1]
    """
    places = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)
    codes = (packed.unsqueeze(1) >> places) & 3
    return codes.flatten()[:count].to(torch.int64) - 1
