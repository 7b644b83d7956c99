# SPDX-License-Identifier: Apache-2.0
"""Plan a layer, run it on a device, and keep account of what was executed."""

from e2train.runtime.execute import execute
from e2train.runtime.ledger import Ledger, LedgerRow
from e2train.runtime.plan import Block, Plan, plan

__all__ = ["Block", "Ledger", "LedgerRow", "Plan", "execute", "plan"]
