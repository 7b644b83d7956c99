# SPDX-License-Identifier: Apache-2.0
"""Plan a layer, run it on a device, and keep account of what was executed."""

from e2train.runtime.computation import computation, operand_bits
from e2train.runtime.execute import execute
from e2train.runtime.ledger import Ledger, LedgerRow, merged
from e2train.runtime.plan import Block, Plan, plan
from e2train.runtime.signs import Signs, grad_signs
from e2train.runtime.work import works

__all__ = [
    "Block",
    "Ledger",
    "LedgerRow",
    "Plan",
    "Signs",
    "computation",
    "execute",
    "grad_signs",
    "merged",
    "operand_bits",
    "plan",
    "works",
]
