# SPDX-License-Identifier: Apache-2.0
"""What layers compute with: a device, the ledger of what it did, and the policy for weight gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2train.devices.protocol import LayerCall, StreamDevice, TensorDevice
from e2train.devices.resident import ResidentDevice
from e2train.nn.parallel import Group
from e2train.numerics.psg import Psg, predict_signs
from e2train.runtime import Ledger, execute

__all__ = ["OffloadContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadContext:
    """A device whose work is entered in a ledger; with ``psg``, weight gradients are signs.

    Output gradients are rounded to ``gradient_bits`` on their way to the device.

    Over the ranks of ``group`` weight gradients are added up as integers, or where ``votes`` is set, signs
    are voted on.
    """

    device: TensorDevice | StreamDevice | ResidentDevice
    ledger: Ledger = field(default_factory=Ledger)
    psg: Psg | None = None
    gradient_bits: int = 16
    group: Group = field(default_factory=Group)
    votes: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> OffloadContext:
        """Itself: a copy of a model shares the device and the ledger."""
        return self

    def run(self, call: LayerCall) -> Tensor:
        """The integers of one call, as a torch tensor.

        Raises: ExactnessError when a sum could overflow; DeviceError when the device fails.
        """
        assert not isinstance(self.device, ResidentDevice)
        result = execute(call, self.device)
        self.ledger.add(call, result)
        value = result.value
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    @property
    def bits_asked_once(self) -> tuple[int, int] | None:
        """High bits of x and gy (0: all) that a weight gradient is asked for; None where more may be."""
        if self.psg is None:
            return 0, 0
        return None if self.psg.mode == "resolve" else (self.psg.x_bits, self.psg.g_bits)

    def weight_gradient(self, name: str, compute: Callable[[int, int], Tensor], scale: float) -> Tensor:
        """A layer's weight gradient over all ranks in float64, or its predicted or voted signs.

        ``compute`` gives this rank's integers from so many high bits of x and gy (0: all); ``scale`` is that
        of its integers.
        """

        def total(x_bits: int, g_bits: int) -> Tensor:
            return self.group.sum(compute(x_bits, g_bits))

        if self.psg is not None:
            signs, predicted = predict_signs(self.psg, compute if self.votes else total)
            self.ledger.add_signs(name, elements=signs.numel(), predicted=int(predicted.sum()))
            return self.group.vote(signs) if self.votes else signs
        return self.group.vote(compute(0, 0).sign()) if self.votes else total(0, 0).double() * scale
