# SPDX-License-Identifier: Apache-2.0
"""The overlay around the engine on each board: one description for Tcl, .hwh and driver."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from e2hls.sources import source_folder

from e2train.config import ConfigError, EngineConfig, load_config
from e2train.config.records import RecordError, check_record, kinds_of, load_toml
from e2train.overlay.manifest import Manifest, OverlayError

__all__ = [
    "BITSTREAMS",
    "PROCESSING_SYSTEMS",
    "STARTER_VLNV",
    "BoardDescription",
    "board_names",
    "check_manifest",
    "load_board",
]

BITSTREAMS = source_folder("bitstreams")

PROCESSING_SYSTEMS = ("processing_system7", "zynq_ultra_ps_e")
_DATA_BITS = 64  # of an engine's streams, and of its DMA's port to the memory
_MOST_PORTS = 4  # of a processing system to the memory
_CLOCK_TOLERANCE = 1e-6

STARTER_VLNV = "xilinx.com:ip:axi_cdma:4.1"
"""What starts several engines at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardDescription:
    """One board's overlay."""

    name: str
    config: EngineConfig
    engines: int  # each between the streams of a DMA of its own
    pynq_name: str
    board_part: str
    remote_image: bool
    architecture: str
    processing_system: str
    processing_system_vlnv: str
    control_port: str
    memory_port: str  # {} stands for the number of the engine
    memory_mib: int  # of DDR
    dma_vlnv: str
    dma_base: int  # of the first; the others follow in steps of dma_range
    dma_range: int
    dma_length_bits: int
    gpio_vlnv: str
    gpio_base: int
    engine_vlnv: str
    power_sensor: str

    def __post_init__(self) -> None:
        if self.processing_system not in PROCESSING_SYSTEMS:
            raise ConfigError(
                f"{self.name}: processing_system must be one of {', '.join(PROCESSING_SYSTEMS)}, "
                f"not {self.processing_system!r}"
            )
        if self.architecture not in ("armv7l", "aarch64"):
            raise ConfigError(f"{self.name}: architecture must be armv7l or aarch64")
        if self.dma_base % self.dma_range or self.dma_range < 4096:
            raise ConfigError(
                f"{self.name}: dma_base must be a multiple of dma_range, and that at least 4096"
            )
        if not 1 <= self.engines <= _MOST_PORTS:
            raise ConfigError(
                f"{self.name}: engines must be in 1..{_MOST_PORTS}, as each has a port to the memory, "
                f"not {self.engines}"
            )
        if self.memory_port.count("{}") != 1:
            raise ConfigError(f"{self.name}: memory_port must have one {{}} for the number of the engine")
        if self.gpio_base % self.dma_range or self.gpio_base in self.dma_bases:
            raise ConfigError(f"{self.name}: gpio_base must be another multiple of dma_range")
        if self.memory_mib < 1:
            raise ConfigError(f"{self.name}: memory_mib must be at least 1, not {self.memory_mib}")
        if not 14 <= self.dma_length_bits <= 26:
            raise ConfigError(f"{self.name}: dma_length_bits must be in 14..26, not {self.dma_length_bits}")

    @property
    def dma_bases(self) -> tuple[int, ...]:
        """Address of each engine's DMA."""
        return tuple(self.dma_base + engine * self.dma_range for engine in range(self.engines))

    @property
    def memory_ports(self) -> tuple[str, ...]:
        """The processing system's port to the memory that each DMA uses."""
        return tuple(self.memory_port.format(engine) for engine in range(self.engines))

    def of_kernel(self) -> BoardDescription:
        """The overlay of a kernel in the engine's place, of which there is one."""
        return replace(self, engines=1)

    @property
    def control_base(self) -> int:
        """Address of the registers of a kernel that has some."""
        return max(self.dma_bases[-1], self.gpio_base) + self.dma_range

    @property
    def starter_base(self) -> int | None:
        """Address of what starts several engines at once."""
        return max(self.dma_bases[-1], self.gpio_base) + self.dma_range if self.engines > 1 else None

    @property
    def clock_mhz(self) -> float:
        """Clock of the engines and their streams."""
        return 1000 / self.config.period_ns

    @property
    def data_bits(self) -> int:
        """Width of streams and memory port."""
        return _DATA_BITS


def board_names(root: Path = BITSTREAMS) -> tuple[str, ...]:
    """Boards that have a description.

    >>> board_names()
    ('kv260', 'pynq_z2', 'zcu104')
    """
    return tuple(sorted(path.parent.name for path in root.glob("*/board.toml")))


def load_board(name: str, root: Path = BITSTREAMS) -> BoardDescription:
    """The description of a board.

    Raises: ConfigError when there is none, or it is not complete.

    >>> round(load_board("zcu104").clock_mhz, 1)
    187.5
    """
    path = root / name / "board.toml"
    if not path.is_file():
        raise ConfigError(f"no board {name!r} in {root}; there are: {', '.join(board_names(root)) or 'none'}")
    kinds = kinds_of(BoardDescription, "name", "engines") | {"config": "str"}
    try:
        raw = check_record(load_toml(path), kinds)
    except RecordError as error:
        raise ConfigError(f"{path}: {error}") from None
    config = load_config(raw["config"])
    return BoardDescription(name=name, engines=config.engines, **{**raw, "config": config})


def check_manifest(manifest: Manifest, root: Path = BITSTREAMS) -> None:
    """Compare a manifest with the description of its board.

    Raises: OverlayError when there is no such board, or it has another configuration or clock.
    """
    names = board_names(root)
    if manifest.board not in names:
        raise OverlayError(f"its board {manifest.board!r} is not known; there are: {', '.join(names)}")
    board = load_board(manifest.board, root)
    if manifest.config != board.config.name:
        raise OverlayError(
            f"its configuration is {manifest.config}, {board.name} has {board.config.name}; rebuild it"
        )
    if not math.isclose(manifest.clock_mhz, board.clock_mhz, rel_tol=_CLOCK_TOLERANCE):
        raise OverlayError(
            f"its clock is {manifest.clock_mhz:g} MHz, {board.name} has {board.clock_mhz:g} MHz; rebuild it"
        )
