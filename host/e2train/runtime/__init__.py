# SPDX-License-Identifier: Apache-2.0
"""Plan a layer, run it on a device, and keep account of what was executed."""

from e2train.runtime.computation import FULL_WIDTHS, Widths, computation, operand_bits
from e2train.runtime.execute import ExecutionStopped, execute, stop_execution
from e2train.runtime.ledger import ELEMENT_MODES, Ledger, LedgerMode, LedgerRow, merged
from e2train.runtime.plan import Block, Plan, plan
from e2train.runtime.signs import Signs, grad_signs
from e2train.runtime.work import works

__all__ = [
    "ELEMENT_MODES",
    "FULL_WIDTHS",
    "Block",
    "ExecutionStopped",
    "Ledger",
    "LedgerMode",
    "LedgerRow",
    "Plan",
    "Signs",
    "Widths",
    "computation",
    "execute",
    "grad_signs",
    "merged",
    "operand_bits",
    "plan",
    "stop_execution",
    "works",
]
