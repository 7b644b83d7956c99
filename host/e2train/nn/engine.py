# SPDX-License-Identifier: Apache-2.0
"""What layers compute with: a device, and the account of what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from e2train.devices.protocol import LayerCall, StreamDevice, TensorDevice
from e2train.nn.parallel import Group
from e2train.numerics.psg import Psg
from e2train.runtime import Ledger, execute, grad_signs

__all__ = ["Engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A device whose work is entered in a ledger; with ``psg``, weight gradients are signs.

    Output gradients are rounded to ``gradient_bits`` on their way to the device.

    Over the ranks of ``group`` weight gradients are added up as integers, or where ``votes`` is set, signs
    are voted on.
    """

    device: TensorDevice | StreamDevice
    ledger: Ledger = field(default_factory=Ledger)
    psg: Psg | None = None
    gradient_bits: int = 16
    group: Group = field(default_factory=Group)
    votes: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Engine:
        """Itself: a copy of a model shares the device and the ledger."""
        return self

    def run(self, call: LayerCall) -> Tensor:
        """The integers of one call, as a torch tensor.

        Raises: ExactnessError when a sum could overflow; DeviceError when the device fails.
        """
        result = execute(call, self.device)
        self.ledger.add(call, result)
        value = result.value
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    def total(self, call: LayerCall) -> Tensor:
        """The integers of one call, added up over the ranks."""
        return self.group.sum(self.run(call))

    def signs(self, call: LayerCall, psg: Psg) -> Tensor:
        """The signs of one grad_weight call over all ranks, as a torch tensor."""
        signs = grad_signs(call, psg, self.run if self.votes else self.total)
        predicted = int(signs.predicted.sum())
        self.ledger.add_signs(call.name, elements=signs.value.numel(), predicted=predicted)
        value: Tensor = signs.value
        return self.group.vote(value) if self.votes else value
