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
from e2train.numerics.psg import SIGN_SCALES, Prediction, Psg, SignScale, mean_magnitude, predict_signs
from e2train.runtime import Ledger, execute

__all__ = ["OffloadContext"]

_X_BITS = 8  # of activations


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadContext:
    """A device whose work is entered in a ledger; with ``psg`` or ``votes``, weight gradients are signs.

    With ``magnitudes`` "mean", a weight gradient is signs times the mean magnitude of what they are signs of,
    so that a layer moves as far as its gradient would move it; with "each", every sign has its own magnitude.

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
    magnitudes: SignScale = "none"

    def __post_init__(self) -> None:
        if self.gradient_bits not in range(2, 17):
            raise ValueError(f"gradient_bits must be in 2..16, not {self.gradient_bits}")
        if self.magnitudes not in SIGN_SCALES:
            raise ValueError(f"magnitudes must be one of {', '.join(SIGN_SCALES)}, not {self.magnitudes!r}")
        if self.votes and self.magnitudes == "each":
            raise ValueError("signs that are voted on have no magnitudes of their own")

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

    def weight_gradient(
        self, name: str, compute: Callable[[int, int], Tensor], scale: float, *, gy_bits: int
    ) -> Tensor:
        """A layer's weight gradient over all ranks in float64, or its predicted or voted signs, as scaled.

        ``compute`` gives this rank's integers from so many high bits of x and gy (0: all); ``scale`` is that
        of its integers, ``gy_bits`` the width of gy in the device's memory.
        """

        def total(x_bits: int, g_bits: int) -> Tensor:
            return self.group.sum(compute(x_bits, g_bits))

        ask = compute if self.votes else total
        if self.psg is not None:
            found = predict_signs(self.psg, ask)
            self.ledger.add_signs(name, elements=found.signs.numel(), predicted=int(found.predicted.sum()))
            msb_scale = scale * 2.0 ** (_X_BITS - self.psg.x_bits + gy_bits - self.psg.g_bits)
            if self.magnitudes == "each":
                return _values(found, msb_scale, scale)
            signs, raw, scale = found.signs, found.gw_msb, msb_scale
        elif self.votes or self.magnitudes == "mean":
            raw = ask(0, 0)
            signs = raw.sign()
        else:
            return total(0, 0).double() * scale
        magnitude = mean_magnitude(raw)
        if self.votes:
            signs = self.group.vote(signs)
            magnitude = float(self.group.sum(torch.tensor(magnitude, dtype=torch.float64)))
        result: Tensor = signs.double() * (magnitude * scale) if self.magnitudes == "mean" else signs
        return result


def _values(found: Prediction, msb_scale: float, scale: float) -> Tensor:
    """What the signs were taken of: the predicted gradient, in full where the prediction left a sign open."""
    values: Tensor = found.gw_msb.double() * msb_scale * found.predicted
    return values if found.full is None else values + found.full.double() * scale * ~found.predicted
