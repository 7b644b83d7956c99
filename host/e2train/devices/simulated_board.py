# SPDX-License-Identifier: Apache-2.0
"""What the simulated board needs to know of overlays and of the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from e2sim import build_soc
from e2sim.board import BoardModel, Design

from e2train.config import EngineConfig, load_config
from e2train.devices.build import engine_rtl
from e2train.devices.own_kernel import OwnKernel
from e2train.overlay import ENGINE, BoardDescription, OverlayError
from e2train.overlay.hwh import divisors
from e2train.overlay.vivado import source_hash

__all__ = ["board_model", "build_logic", "kernel_logic", "prepare_logic"]


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

    Raises: OverlayError when it was made for another version's engine, or for a kernel.
    """
    if design.kernel != ENGINE:
        raise OverlayError(
            f"the bitstream is for the kernel {design.kernel}; serve the board with --kernel FILE.cpp"
        )
    config = load_config(design.config)
    if config.hash32 != design.config_hash:
        raise OverlayError(f"the bitstream is for another {config.name}; rebuild it")
    return _built(config)


def kernel_logic(kernel: OwnKernel) -> Callable[[Design], Path]:
    """The same for a board that serves a user's kernel, which is built here."""
    library = build_soc(kernel, control=bool(kernel.registers))
    wanted = source_hash(kernel.verilog_files)

    def build(design: Design) -> Path:
        if (design.kernel, design.source_sha256) != (kernel.kernel, wanted):
            raise OverlayError(
                f"the bitstream is for {design.kernel}, the board serves {kernel.kernel} as it is built now; "
                "rebuild one of them"
            )
        return library

    return build


def prepare_logic(board: BoardDescription) -> None:
    """Build what the board's overlay will ask for: clients expect to program it as fast as a real board."""
    _built(board.config)


def _built(config: EngineConfig) -> Path:
    return build_soc(engine_rtl(config))
