# SPDX-License-Identifier: Apache-2.0
"""Plan a layer, run it on a device, and keep the ledger of what was executed."""

from e2train.runtime.execute import ExecutionStopped, execute, stop_execution
from e2train.runtime.ledger import (
    ELEMENT_MODES,
    FULL_WIDTHS,
    Ledger,
    LedgerMode,
    LedgerRow,
    Widths,
    computation,
    merged,
    operand_bits,
    stored_widths,
    works,
)
from e2train.runtime.plan import Block, Plan, plan

__all__ = [
    "ELEMENT_MODES",
    "FULL_WIDTHS",
    "Block",
    "ExecutionStopped",
    "Ledger",
    "LedgerMode",
    "LedgerRow",
    "Plan",
    "Widths",
    "computation",
    "execute",
    "merged",
    "operand_bits",
    "plan",
    "stop_execution",
    "stored_widths",
    "works",
]
