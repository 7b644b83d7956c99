# SPDX-License-Identifier: Apache-2.0
"""The hardware design as typed records, which the front end makes and the back end reads."""

from e2hls.ir.design import (
    SIDES,
    STATE_SUFFIX,
    Array,
    Block,
    Branch,
    Const,
    Cut,
    Design,
    Instr,
    LoopInfo,
    Op,
    Operand,
    Phi,
    Process,
    Ref,
    Return,
    Stream,
    Terminator,
)

__all__ = [
    "SIDES",
    "STATE_SUFFIX",
    "Array",
    "Block",
    "Branch",
    "Const",
    "Cut",
    "Design",
    "Instr",
    "LoopInfo",
    "Op",
    "Operand",
    "Phi",
    "Process",
    "Ref",
    "Return",
    "Stream",
    "Terminator",
]
