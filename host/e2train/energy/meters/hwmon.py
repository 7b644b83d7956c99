# SPDX-License-Identifier: Apache-2.0
"""Power sensors of Linux' hwmon (INA226, INA260 and the like), read through any function that reads files.

The function is the board's: local files on the board itself, PYNQ.remote's file calls from a PC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from e2train.energy.meters.files import read_micro
from e2train.energy.meters.protocol import ReadFile, Reading
from e2train.energy.readings import Origin

__all__ = ["HwmonMeter", "base_name", "find_hwmon"]

_ROOT = "/sys/class/hwmon"
_MOST = 64  # chips looked at
_GAP = 4  # numbers in a row without a chip: there are no more; unbound drivers leave smaller gaps
_SIMULATED = "simulated_"
_AT = "@"  # between a name and what tells it from others
_PERIOD_S = 0.15  # INA260s on Kria boards give 6 to 7 values a second


@dataclass(frozen=True, slots=True, kw_only=True)
class HwmonMeter:
    """One chip that measures power."""

    name: str
    path: str  # of its power in microwatts
    read_file: ReadFile
    period_s: float = _PERIOD_S
    counts_energy: bool = False
    wraps_at_j: float | None = None

    @property
    def origin(self) -> Origin:
        """Simulated boards say so in the names of their sensors."""
        return "simulated" if self.name.startswith(_SIMULATED) else "measured"

    def read(self) -> Reading:
        """Watts.

        Raises: EnergyError when it has gone, or says something that is no number.
        """
        return Reading(read_micro(self.read_file, self.path, self.name))

    def close(self) -> None:
        """There is nothing to let go of."""


def find_hwmon(read_file: ReadFile, root: str = _ROOT) -> list[HwmonMeter]:
    """All chips that measure power; one that cannot be read, as while it is off, is left out.

    A chip's name is that of its driver. Where several have one name, each is NAME@LABEL, or, if their labels
    do not tell them apart, NAME@hwmon3 of its folder.
    """
    chips: list[tuple[str, str, bool]] = []
    missing = 0
    for index in range(_MOST):
        folder = f"{root}/hwmon{index}"
        name = _text(read_file, f"{folder}/name")
        missing = missing + 1 if name is None else 0
        if missing == _GAP:
            break
        if name is not None and (readable := _is_readable(read_file, f"{folder}/power1_input")) is not None:
            chips.append((name, folder, readable))
    names = _distinct_names(read_file, [(name, folder) for name, folder, _ in chips])
    return [
        HwmonMeter(
            name=names[folder],
            path=f"{folder}/power1_input",
            read_file=read_file,
            period_s=_period_s(read_file, folder),
        )
        for _, folder, readable in chips
        if readable
    ]


def base_name(name: str) -> str:
    """A meter's name without what tells it from others of its kind.

    >>> base_name("ina226@hwmon3")
    'ina226'
    """
    return name.partition(_AT)[0]


def _distinct_names(read_file: ReadFile, chips: list[tuple[str, str]]) -> dict[str, str]:
    """A name for each chip's folder, no two alike; labels are read only where names are."""
    folders: dict[str, list[str]] = {}
    for name, folder in chips:
        folders.setdefault(name, []).append(folder)
    names: dict[str, str] = {}
    for name, alike in folders.items():
        if len(alike) == 1:
            names[alike[0]] = name
            continue
        labels = [_text(read_file, f"{folder}/label") for folder in alike]
        if not all(labels) or len(set(labels)) < len(labels):
            labels = [folder.rpartition("/")[2] for folder in alike]
        names |= {folder: f"{name}{_AT}{label}" for folder, label in zip(alike, labels, strict=True)}
    return names


def _period_s(read_file: ReadFile, folder: str) -> float:
    """How long a value stands: as the driver says in milliseconds, where it does and that is longer."""
    try:
        interval_ms = float(_text(read_file, f"{folder}/update_interval") or 0)
    except (OSError, RuntimeError, ValueError):
        return _PERIOD_S
    return max(_PERIOD_S, interval_ms / 1000) if math.isfinite(interval_ms) else _PERIOD_S


def _text(read_file: ReadFile, path: str) -> str | None:
    content = read_file(path)
    return None if content is None else content.decode(errors="replace").strip()


def _is_readable(read_file: ReadFile, path: str) -> bool | None:
    """Whether a file can be read; None where there is none."""
    try:
        return None if read_file(path) is None else True
    except (OSError, RuntimeError):
        return False
