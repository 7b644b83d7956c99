# SPDX-License-Identifier: Apache-2.0
"""Put the convolutions of any model on a device."""

from __future__ import annotations

import warnings

from torch import nn

from e2train.devices.protocol import StreamDevice, TensorDevice
from e2train.nn.engine import Engine
from e2train.nn.layers import OffloadConv2d

__all__ = ["HostLayerWarning", "offload"]


class HostLayerWarning(UserWarning):
    """Some convolutions stay on the host."""


def offload(model: nn.Module, device: Engine | TensorDevice | StreamDevice) -> nn.Module:
    """Replace every nn.Conv2d and brevitas QuantConv2d by one that computes on the device.

    Works in place, keeps the parameters, and returns the model (or the new layer, where the model is one).
    With an ``Engine`` in the place of a device, its ledger holds what was executed.

    >>> from e2train.devices import open_device
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    >>> type(offload(model, open_device("emulator"))[2]).__name__
    'OffloadConv2d'
    """
    engine = device if isinstance(device, Engine) else Engine(device=device)
    new = {
        old: OffloadConv2d.from_conv(old, engine, name or "conv")
        for name, old in model.named_modules()
        if isinstance(old, nn.Conv2d) and not isinstance(old, OffloadConv2d)
    }
    for parent in list(model.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child in new:
                setattr(parent, child_name, new[child])
    if on_host := [f"{layer.name} ({layer.host_reason})" for layer in new.values() if layer.host_reason]:
        warnings.warn(
            f"these convolutions run on the host: {', '.join(on_host)}", HostLayerWarning, stacklevel=2
        )
    return new[model] if isinstance(model, nn.Conv2d) and model in new else model
