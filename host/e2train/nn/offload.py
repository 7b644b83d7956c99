# SPDX-License-Identifier: Apache-2.0
"""Put the convolutions of any model on a device."""

from __future__ import annotations

import warnings
from typing import Any

from brevitas.nn import QuantConv2d
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from e2train.devices.protocol import StreamDevice, TensorDevice
from e2train.devices.resident import ResidentDevice
from e2train.nn.context import OffloadContext
from e2train.nn.layers import OffloadConv2d, host_reason
from e2train.nn.quantiser_checks import check_quantisers
from e2train.nn.residual import ResidualNet

__all__ = ["HostLayerWarning", "offload", "whole_state"]

_PLAIN = (nn.Conv2d, QuantConv2d)


class HostLayerWarning(UserWarning):
    """Some convolutions stay on the host."""


def offload(model: nn.Module, device: OffloadContext | TensorDevice | StreamDevice) -> nn.Module:
    """Turn every nn.Conv2d and brevitas QuantConv2d into one that computes on the device.

    Works in place, layer by layer: parameters, hooks and references to a layer stay. A class derived from one
    of the two may compute something else, and stays as it is. A model that is on a device already moves to
    the new one. Returns the model. With an ``OffloadContext`` in the place of a device, its ledger holds what
    was executed.

    What the engine does not do (groups, dilation, ...) runs on the host, with operands of 8 bits as well.

    Raises: ShapeError when a layer's quantisers are not ones that the engine can follow; then nothing has
        changed. TypeError when one of the two is something else.

    >>> from e2train.devices import open_device
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    >>> type(offload(model, open_device("emulator"))[2]).__name__
    'OffloadConv2d'
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model must be an nn.Module, not {type(model).__name__}")
    if not isinstance(device, OffloadContext | TensorDevice | StreamDevice):
        raise TypeError(
            f"the device must be one that open_device returned, or an OffloadContext, not {device!r}"
        )
    context = device if isinstance(device, OffloadContext) else OffloadContext(device=device)
    if isinstance(context.device, ResidentDevice):
        raise TypeError(f"the device must be one of open_device, not {context.device!r} of open_resident")
    if any(isinstance(module, ResidualNet) and module.resident is not None for module in model.modules()):
        raise TypeError("the model has a ResidentBody, which computes its convolutions; set resident to None")
    convs = {name or "conv": module for name, module in model.named_modules() if isinstance(module, _ConvNd)}
    new = {name: conv for name, conv in convs.items() if not isinstance(conv, OffloadConv2d)}
    left = {name: reason for name, conv in new.items() if (reason := _why_left(conv))}
    for name, conv in new.items():
        if name not in left and isinstance(conv, QuantConv2d):
            check_quantisers(conv, name, on_device=host_reason(conv) is None)
    for name, conv in convs.items():
        if isinstance(conv, OffloadConv2d):
            conv.context, conv.name = context, name
        elif isinstance(conv, nn.Conv2d) and name not in left:
            OffloadConv2d.from_conv(conv, context, name)
    layers = {name: conv for name, conv in convs.items() if isinstance(conv, OffloadConv2d)}
    reasons = {name: left.get(name) or layers[name].host_reason for name in new}
    if on_host := [f"{name} ({reason})" for name, reason in reasons.items() if reason]:
        quantised = [name for name, reason in reasons.items() if reason and name not in left]
        how = f"; with operands of 8 bits, as on the device: {', '.join(quantised)}" if quantised else ""
        _warn(f"these convolutions run on the host: {', '.join(on_host)}{how}")
    if all(layer.host_reason for layer in layers.values()):
        _warn("nothing runs on the device: the model has no Conv2d or QuantConv2d that the engine takes")
    return model


def whole_state(model: nn.Module) -> dict[str, Any]:
    """A model's state dict, with the ranges of inputs that offloaded layers have seen as entries.

    ``load_state_dict`` takes it like any other.
    """
    state: dict[str, Any] = model.state_dict()
    for name, layer in model.named_modules(remove_duplicate=False):
        if isinstance(layer, OffloadConv2d):
            state.update({f"{name}.{key}" if name else key: value for key, value in layer.ranges().items()})
    return state


def _why_left(conv: nn.Module) -> str | None:
    """Why a convolution that is not on a device yet stays as it is, or None."""
    kind = type(conv).__bases__[0] if parametrize.is_parametrized(conv) else type(conv)
    if kind not in _PLAIN:
        return f"class {kind.__module__}.{kind.__qualname__}"
    if vars(conv).keys() & {"forward", "_conv_forward"}:
        return "its forward was replaced"
    return None


def _warn(text: str) -> None:
    warnings.warn(text, HostLayerWarning, stacklevel=3)
