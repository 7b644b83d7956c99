# SPDX-License-Identifier: Apache-2.0
"""The RTL of kernels in Verilator: its tools, and a harness that feeds and drains all streams."""

from e2hls.simulation.harness import Simulation, SimulationRun, build_simulation, simulate
from e2hls.simulation.toolchain import SimulationError

__all__ = ["Simulation", "SimulationError", "SimulationRun", "build_simulation", "simulate"]
