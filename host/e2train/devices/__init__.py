# SPDX-License-Identifier: Apache-2.0
"""Devices that compute convolutions, behind one protocol."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from e2train.config import load_config
from e2train.config.extras import install_command
from e2train.devices.protocol import (
    MODES,
    OUTER_MODES,
    Closing,
    ConvShape,
    Counters,
    DeviceError,
    DeviceLostError,
    LayerCall,
    LayerResult,
    Mode,
    ShapeError,
    StepLostError,
    StreamDevice,
    TensorDevice,
    Transfer,
    products_per_multiplier,
)
from e2train.devices.resident import ResidentDevice

__all__ = [
    "DEVICES",
    "MODES",
    "OUTER_MODES",
    "Closing",
    "ConvShape",
    "Counters",
    "DeviceError",
    "DeviceLostError",
    "LayerCall",
    "LayerResult",
    "Mode",
    "ResidentDevice",
    "ShapeError",
    "StepLostError",
    "StreamDevice",
    "TensorDevice",
    "Transfer",
    "check_device",
    "open_device",
    "open_resident",
    "products_per_multiplier",
]

# Imported when asked for: torch, a compiler, a simulator or pynq may be missing.
_CLASSES = {
    "emulator": ("e2train.devices.emulator", "Emulator"),
    "csim": ("e2train.devices.csim", "CsimDevice"),
    "rtl": ("e2train.devices.rtl", "RtlDevice"),
    "spec": ("e2train.devices.spec", "SpecDevice"),
    "pynq": ("e2train.devices.pynq", "PynqDevice"),
    "agent": ("e2train.devices.agent", "AgentDevice"),
}
_RESIDENT_CLASSES = {
    False: ("e2train.devices.chains", "StreamResident"),
    True: ("e2train.devices.chains.board", "BoardResident"),
}
_ADDRESSED = ("pynq", "agent")
_OF_BOARD = {"pynq": ("overlay", "deadline_s"), "agent": ("token_file", "deadline_s")}

DEVICES = tuple(_CLASSES)


def check_device(spec: str) -> None:
    """Look whether ``spec`` is a device's name, or ``pynq:HOST[:PORT]``, ``agent:HOST[:PORT]``.

    Raises: DeviceError when it is not.
    """
    name, colon, address = spec.partition(":")
    if name not in _CLASSES:
        raise DeviceError(f"no device {name!r}; there are: {', '.join(DEVICES)}")
    if colon and name not in _ADDRESSED:
        raise DeviceError(
            f"device {name} is in this process and has no address; leave {colon + address!r} out"
        )
    if name == "agent" and not address:
        raise DeviceError("device agent needs the address of a board: agent:HOST or agent:HOST:PORT")


def open_device(
    spec: str,
    *,
    config: str = "pynq_z2",
    overlay: str | Path = "",
    token_file: str | Path = "",
    deadline_s: float | None = None,
    **options: Any,
) -> TensorDevice | StreamDevice:
    """Open a device, for one of the configurations in ``boards.toml``.

    ``overlay`` is the archive that a pynq board is programmed with, ``token_file`` holds the token of a
    board's agent, ``deadline_s`` is how long either may take to answer; ``options`` are those of the device.
    Raises: DeviceError when there is no such device or a package that it needs is missing; TypeError for an
        option that it does not take.
    """
    check_device(spec)
    where = {"overlay": overlay, "token_file": token_file, "deadline_s": deadline_s}
    device: TensorDevice | StreamDevice = _open(spec, _CLASSES, config, options, **where)  # type: ignore[arg-type]
    return device


def _open(
    spec: str,
    classes: Mapping[str, tuple[str, str]],
    config: str,
    options: dict[str, Any],
    *,
    overlay: str | Path = "",
    token_file: str | Path = "",
    deadline_s: float | None = None,
) -> Any:
    """An object of the class that stands for a device."""
    name, _, address = spec.partition(":")
    module, class_name = classes[name]
    try:
        device_class = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        raise DeviceError(f"device {name} needs {error.name}; {_install(error)}") from error
    taken = [option for option in inspect.signature(device_class).parameters if option != "address"]
    _check_options(name, options, taken)
    engine = load_config(config)
    arguments = () if name == "emulator" else (engine,)  # the emulator has no hardware to configure
    if name in _ADDRESSED:
        options |= {"address": address} | ({} if deadline_s is None else {"deadline_s": deadline_s})
    if name == "pynq":
        if not overlay:
            raise DeviceError("device pynq needs an overlay: give its archive with --overlay FILE.zip")
        options["overlay"] = Path(overlay)
    if name == "agent":
        options["token_file"] = Path(token_file) if token_file else None
    return device_class(*arguments, **options)


def open_resident(
    spec: str = "emulator",
    *,
    config: str = "pynq_z2",
    host: str = "cpu",
    threads: int = 1,
    **of_board: Any,
) -> ResidentDevice:
    """Open a device that keeps tensors in its memory; all give the same bits.

    The emulator computes in C++ on a CPU, in torch on a GPU or where no compiler is installed. The others run
    the engine of one of the configurations in ``boards.toml``; ``of_board`` is what ``open_device`` takes for
    one on a board. What is of another device is ignored.
    Raises: DeviceError when there is no such device or a package that it needs is missing; TypeError for an
        option that no device takes.
    """
    check_device(spec)
    name = spec.partition(":")[0]
    unknown = set(of_board).difference(*_OF_BOARD.values())
    taken = ("host", "threads") if name == "emulator" else ("config", *_OF_BOARD.get(name, ()))
    _check_options(name, unknown, taken)
    if spec == "emulator":
        return _open_emulator(host, threads)
    device: ResidentDevice
    if name == "agent":
        device = _open(
            spec, {name: ("e2train.devices.agent_resident", "AgentResident")}, config, {}, **of_board
        )
        return device
    try:
        if spec == "rtl":
            soc = import_module("e2train.devices.chains.soc")
            device = soc.SocResident(load_config(config))
            return device
        module, class_name = _RESIDENT_CLASSES[name == "pynq"]
        resident_class = getattr(import_module(module), class_name)
    except ModuleNotFoundError as error:
        raise DeviceError(f"device {spec} needs {error.name}; {_install(error)}") from error
    device = resident_class(open_device(spec, config=config, **(of_board if name == "pynq" else {})))
    return device


def _check_options(name: str, given: Iterable[str], taken: Iterable[str]) -> None:
    unknown = sorted(set(given) - set(taken))
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise TypeError(f"device {name} takes no option {names}; it takes: {', '.join(taken)}")


def _open_emulator(host: str, threads: int) -> ResidentDevice:
    if host == "cpu":
        try:
            native = import_module("e2train.devices.native")
            device: ResidentDevice = native.NativeResident(threads=threads)
            return device
        except (ModuleNotFoundError, DeviceError) as error:
            warnings.warn(f"torch emulates the device, slowly: {error}", stacklevel=3)
    try:
        emulator = import_module("e2train.devices.emulator.resident")
    except ModuleNotFoundError as error:
        raise DeviceError(f"the emulator needs {error.name}; {_install(error)}") from error
    device = emulator.TorchResident(host)
    return device


def _install(error: ModuleNotFoundError) -> str:
    return install_command(error.name or "")
