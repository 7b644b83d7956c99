# SPDX-License-Identifier: Apache-2.0
"""Hardware configurations: one TOML file, from which the C++ header is generated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

from e2train.config.records import RecordError, check_record, kinds_of, load_toml

__all__ = ["BOARDS_FILE", "ConfigError", "EngineConfig", "config_header", "config_names", "load_config"]

BOARDS_FILE = Path(__file__).with_name("boards.toml")

_FAMILIES = ("xc7", "xcup")
_LANES = (16, 8)  # a pixel of a resident tensor has 16 channels; an int16 vector of gy has 8
_MOST_ENGINES = 16


class ConfigError(ValueError):
    """A configuration that does not exist or makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The training engines on one board, with what the board's part has to give."""

    name: str
    part: str
    family: str
    engines: int  # each with a DMA of its own
    ic_lanes: int
    oc_lanes: int
    x_depth: int  # vectors of ic_lanes int16 per half
    w_depth: int  # rows of oc_lanes vectors per half
    period_ns: float
    dsp: int
    bram36: int
    lut: int
    ff: int

    def __post_init__(self) -> None:
        if self.family not in _FAMILIES:
            raise ConfigError(
                f"[{self.name}] family must be one of {', '.join(_FAMILIES)}, not {self.family!r}"
            )
        if not 1 <= self.engines <= _MOST_ENGINES:
            raise ConfigError(f"[{self.name}] engines must be in 1..{_MOST_ENGINES}, not {self.engines}")
        if (self.ic_lanes, self.oc_lanes) != _LANES:
            raise ConfigError(
                f"[{self.name}] ic_lanes must be {_LANES[0]} and oc_lanes {_LANES[1]}, "
                f"not {self.ic_lanes} and {self.oc_lanes}; a larger part takes more engines"
            )
        # A window of 7x7 positions fits, and as many rows of weights for two output channels a multiplier.
        for key, least in (("x_depth", 64), ("w_depth", 128)):
            depth = getattr(self, key)
            if not least <= depth <= 1 << 15 or depth & (depth - 1):
                raise ConfigError(
                    f"[{self.name}] {key} must be a power of two in {least}..32768, not {depth}"
                )
        if self.period_ns <= 0:
            raise ConfigError(f"[{self.name}] period_ns must be above 0, not {self.period_ns}")

    @property
    def multipliers(self) -> int:
        """Of one engine."""
        return self.ic_lanes * self.oc_lanes

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates that all engines do in one cycle, one per multiplier."""
        return self.engines * self.multipliers

    @property
    def w_vectors(self) -> int:
        """Capacity of one half of the weight buffer, in vectors."""
        return self.oc_lanes * self.w_depth

    @property
    def hash32(self) -> int:
        """What the kernel answers as its configuration: a hash over every number of it."""
        text = ";".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def config_names(path: Path = BOARDS_FILE) -> tuple[str, ...]:
    """Names of all configurations, in the order of the file.

    >>> config_names()
    ('pynq_z2', 'zcu104', 'kv260')
    """
    return tuple(load_toml(path))


def load_config(name: str, path: Path = BOARDS_FILE) -> EngineConfig:
    """One configuration by name.

    Raises: ConfigError when there is no such section, or its keys are not the right ones.

    >>> load_config("pynq_z2").macs_per_cycle
    128
    """
    sections = load_toml(path)
    if name not in sections:
        raise ConfigError(f"no configuration {name!r} in {path.name}; there are: {', '.join(sections)}")
    return _parse(name, sections[name], path)


def config_header(cfg: EngineConfig, path: Path = BOARDS_FILE) -> str:
    """The C++ header ``engine_config.hpp``; its first line holds the hash of the TOML file."""
    source_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    constants = {
        "kIcLanes": cfg.ic_lanes,
        "kOcLanes": cfg.oc_lanes,
        "kXDepth": cfg.x_depth,
        "kWDepth": cfg.w_depth,
    }
    lines = [
        f"// {path.name} sha256 {source_hash}",
        f"// Generated for {cfg.name}; change {path.name} instead.",
        "#pragma once",
        "",
        "namespace engine_config {",
        *(f"constexpr int {name} = {value};" for name, value in constants.items()),
        f"constexpr unsigned int kConfigHash = 0x{cfg.hash32:08x}u;",
        "}  // namespace engine_config",
    ]
    return "\n".join(lines) + "\n"


def _parse(name: str, section: object, path: Path) -> EngineConfig:
    try:
        return EngineConfig(name=name, **check_record(section, kinds_of(EngineConfig, "name")))
    except RecordError as error:
        raise ConfigError(f"{path.name} [{name}] {error}") from None
