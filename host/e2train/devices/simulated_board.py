# SPDX-License-Identifier: Apache-2.0
"""What the simulated board needs to know of overlays and of the engine."""

from __future__ import annotations

from pathlib import Path

from e2sim import build_soc
from e2sim.board import BoardModel, Design

from e2train.config import EngineConfig, load_config
from e2train.devices.build import engine_rtl
from e2train.overlay import BoardDescription, OverlayError
from e2train.overlay.hwh import divisors

__all__ = ["board_model", "build_logic", "prepare_logic"]


def board_model(board: BoardDescription) -> BoardModel:
    """The simulated board that takes a description's overlay."""
    return BoardModel(
        name=board.pynq_name,
        design=board.name,
        architecture=board.architecture,  # type: ignore[arg-type]  # checked there
        divisors=divisors(board),
        sensor=board.power_sensor,
    )


def build_logic(design: Design) -> Path:
    """The library of the SoC that a simulated bitstream asks for.

    Raises: OverlayError when it was made for another version's engine.
    """
    config = load_config(design.config)
    if config.hash32 != design.config_hash:
        raise OverlayError(f"the bitstream is for another {config.name}; rebuild it")
    return _built(config)


def prepare_logic(board: BoardDescription) -> None:
    """Build what the board's overlay will ask for: clients expect to program it as fast as a real board."""
    _built(board.config)


def _built(config: EngineConfig) -> Path:
    return build_soc(engine_rtl(config))
