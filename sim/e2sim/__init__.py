# SPDX-License-Identifier: Apache-2.0
"""The Verilated SoC and the cocotb runner."""

from e2hls.simulation.toolchain import Rtl, SimulationError, Toolchain

from e2sim.build import build_soc
from e2sim.soc import DmaRegister, MemoryTiming, Soc, TransferStats, Until

__all__ = [
    "DmaRegister",
    "MemoryTiming",
    "Rtl",
    "SimulationError",
    "Soc",
    "Toolchain",
    "TransferStats",
    "Until",
    "build_soc",
]
