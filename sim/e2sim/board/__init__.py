# SPDX-License-Identifier: Apache-2.0
"""A simulated PYNQ board that the unmodified pynq client takes for a real one. Needs the pynq package."""

from e2sim.board.bitstream import Design
from e2sim.board.board import BoardModel
from e2sim.board.faults import Fault, parse_faults
from e2sim.board.server import PYNQ_PORT, BoardServer, check_address

__all__ = ["PYNQ_PORT", "BoardModel", "BoardServer", "Design", "Fault", "check_address", "parse_faults"]
