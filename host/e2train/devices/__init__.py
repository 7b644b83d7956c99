# SPDX-License-Identifier: Apache-2.0
"""Devices that compute convolutions, behind one protocol."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from e2train.config import load_config
from e2train.devices.protocol import (
    MODES,
    OUTER_MODES,
    Closing,
    ConvShape,
    Counters,
    DeviceError,
    LayerCall,
    LayerResult,
    Mode,
    ShapeError,
    StreamDevice,
    TensorDevice,
    Transfer,
    products_per_multiplier,
)

__all__ = [
    "DEVICES",
    "MODES",
    "OUTER_MODES",
    "Closing",
    "ConvShape",
    "Counters",
    "DeviceError",
    "LayerCall",
    "LayerResult",
    "Mode",
    "ShapeError",
    "StreamDevice",
    "TensorDevice",
    "Transfer",
    "open_device",
    "products_per_multiplier",
]

# Imported when asked for: torch, a compiler or a simulator may be missing.
_CLASSES = {
    "emulator": ("e2train.devices.emulator", "Emulator"),
    "csim": ("e2train.devices.csim", "CsimDevice"),
    "rtl": ("e2train.devices.rtl", "RtlDevice"),
    "spec": ("e2train.devices.spec", "SpecDevice"),
}

DEVICES = tuple(_CLASSES)


def open_device(name: str, *, config: str = "pynq_z2", **options: Any) -> TensorDevice | StreamDevice:
    """Open a device by name, for one of the configurations in ``boards.toml``.

    Raises: DeviceError when there is no such device or a package that it needs is missing.
    """
    if name not in _CLASSES:
        raise DeviceError(f"no device {name!r}; there are: {', '.join(DEVICES)}")
    module, class_name = _CLASSES[name]
    try:
        device_class = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        raise DeviceError(f"device {name} needs the Python package {error.name}; pip install it") from error
    engine = load_config(config)
    arguments = () if name == "emulator" else (engine,)  # the emulator has no hardware to configure
    device: TensorDevice | StreamDevice = device_class(*arguments, **options)
    return device
