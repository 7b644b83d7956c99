# SPDX-License-Identifier: Apache-2.0
"""What determines a run: presets, their defaults, and the TOML file that holds them."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from e2train.config import config_names
from e2train.devices import DEVICES
from e2train.train.errors import TrainError
from e2train.train.methods import METHODS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PRESETS", "RunConfig", "find_config", "read_config"]

_WHERE_ONLY = ("device", "board")  # where a run computes does not change what it computes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that a run's outcome depends on."""

    preset: str  # a data set with a model
    method: str = "smb-int8"
    device: str = "emulator"
    board: str = "pynq_z2"  # configuration of the engine, where the device has one
    seed: int = 0
    epochs: int = 4
    steps: int = 0  # 0: as many as the epochs have
    batch: int = 32
    lr: float = 0.1  # peak; warms up linearly, then falls as a cosine
    warmup: float = 0.1  # share of the steps
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    threads: int = 1  # of torch on the host: sums depend on it

    def __post_init__(self) -> None:
        for key, known in _CHOICES.items():
            if getattr(self, key) not in known:
                raise TrainError(f"no {key} {getattr(self, key)!r}; there are: {', '.join(known)}")
        for key, lowest in _LOWEST.items():
            if not getattr(self, key) >= lowest:
                raise TrainError(f"{key} must be at least {lowest}, not {getattr(self, key)}")

    @property
    def hash(self) -> str:
        """Hash of what determines the trained weights: everything but where they are computed."""
        told = {key: value for key, value in asdict(self).items() if key not in _WHERE_ONLY}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @property
    def default_out(self) -> Path:
        """The run's folder where none is given."""
        return Path("runs") / f"{self.preset}-{self.method}-{self.device}-seed{self.seed}"

    def changed(self, **options: Any) -> RunConfig:
        """The same with other values; an option that is None changes nothing."""
        return replace(self, **{key: value for key, value in options.items() if value is not None})

    def to_toml(self) -> str:
        """The text that ``read_config`` reads.

        >>> RunConfig(preset="digits").to_toml().splitlines()[0]
        'preset = "digits"'
        """
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in asdict(self).items())


_CHOICES: dict[str, tuple[str, ...]] = {
    "preset": ("digits",),
    "method": tuple(METHODS),
    "device": DEVICES,
    "board": config_names(),
}
_LOWEST = {"seed": 0, "epochs": 1, "steps": 0, "batch": 1, "lr": 0, "warmup": 0, "momentum": 0,
           "weight_decay": 0, "label_smoothing": 0, "threads": 1}  # fmt: skip

PRESETS = {"digits": RunConfig(preset="digits", label_smoothing=0.1)}


def find_config(name: str) -> RunConfig:
    """A preset by its name, or a run's configuration by the path of its TOML file.

    Raises: TrainError when there is neither.

    >>> find_config("digits").method
    'smb-int8'
    """
    if name in PRESETS:
        return PRESETS[name]
    if name.endswith(".toml"):
        return read_config(Path(name))
    raise TrainError(f"no preset {name!r}; there are: {', '.join(PRESETS)}, or give a .toml file")


def read_config(path: Path) -> RunConfig:
    """Read a configuration file.

    Raises: TrainError when it cannot be read, or holds keys or values that make no sense.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # broken TOML and broken UTF-8
        raise TrainError(f"{path} is not TOML: {error}") from error
    kinds = {field.name: str(field.type) for field in fields(RunConfig)}
    for key, value in told.items():
        if key not in kinds:
            raise TrainError(f"{path}: unknown key {key!r}; there are: {', '.join(kinds)}")
        accepted = {"int": (int,), "float": (int, float), "str": (str,)}[kinds[key]]
        if not isinstance(value, accepted) or isinstance(value, bool):
            raise TrainError(f"{path}: {key} must be of type {kinds[key]}, not {value!r}")
    if "preset" not in told:
        raise TrainError(f"{path}: preset is missing; there are: {', '.join(PRESETS)}")
    start = PRESETS.get(told["preset"], PRESETS["digits"])
    return start.changed(**told)
