# SPDX-License-Identifier: Apache-2.0
"""Like lanes of a module as arrays and loops, for the speed of a simulation.

XLS writes every lane of an unrolled loop out, in registers and wires of its own. Verilator makes one long
program of that, too long for a processor's instruction cache and without anything that a compiler could
vectorise. Here registers whose next values are the same expression of other operands become one array, and
their next values one loop.
"""

from e2hls.xls_verilog.lanes.loops import roll_lanes

__all__ = ["roll_lanes"]
