# SPDX-License-Identifier: Apache-2.0
"""What layers compute with: a device, and the account of what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from e2train.devices.protocol import LayerCall, StreamDevice, TensorDevice
from e2train.runtime import Ledger, execute

__all__ = ["Engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A device whose work is entered in a ledger."""

    device: TensorDevice | StreamDevice
    ledger: Ledger = field(default_factory=Ledger)

    def run(self, call: LayerCall) -> Tensor:
        """The integers of one call, as a torch tensor.

        Raises: ExactnessError when a sum could overflow; DeviceError when the device fails.
        """
        result = execute(call, self.device)
        self.ledger.add(call, result)
        value = result.value
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
