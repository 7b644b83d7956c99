# SPDX-License-Identifier: Apache-2.0
"""Ledger rows as work that a cost table prices."""

from __future__ import annotations

from collections.abc import Iterable

from e2train.config import EngineConfig
from e2train.devices.protocol import OUTER_MODES, products_per_multiplier
from e2train.energy import Work
from e2train.runtime.computation import FULL_WIDTHS, Widths, operand_bits
from e2train.runtime.ledger import ELEMENT_MODES, LedgerRow

__all__ = ["works"]

_WIDE_BITS = 64  # of full weight gradients on their way to the host
_RESULT_BITS = 32
_FLOAT_BITS = 32


def works(rows: Iterable[LedgerRow], *, config: EngineConfig, widths: Widths = FULL_WIDTHS) -> list[Work]:
    """What each layer did in each direction, on the device and on the host.

    Buffers are read as the engine of ``config`` reads them: x serves all output lanes, with high bits twice;
    a weight serves one multiplier, as every output position reads it again; in weight gradients, gy serves
    all input lanes. Operands of fewer bits than the engine's are moved as wide as its own; resident
    gradients of 8 bits are moved as such, and resident operations address the bytes that were counted. What
    the host computes in float32 is counted as if the same array did so.
    """
    found = []
    for row in rows:
        outer = row.mode in OUTER_MODES
        common = {
            "layer": row.name,
            "direction": row.mode,
            "a_reads_per_mac": 1 / (config.oc_lanes * products_per_multiplier(row.mode)),
            "b_reads_per_mac": 1 / config.ic_lanes if outer else 1.0,
            "a_values": row.a_values,
            "b_values": row.b_values,
            "results": row.results,
        }
        if row.counters.macs:
            a_bits, b_bits = operand_bits(row.mode, widths)
            stored = widths if row.counters.dram_bytes else FULL_WIDTHS
            a_stored, b_stored = operand_bits("grad_weight" if outer else row.mode, stored)
            found.append(
                Work(
                    **common,  # type: ignore[arg-type]
                    macs=row.counters.macs,
                    a_bits=a_bits,
                    b_bits=b_bits,
                    a_stored_bits=a_stored,
                    b_stored_bits=b_stored,
                    result_bits=_WIDE_BITS if row.mode == "grad_weight" else _RESULT_BITS,
                    addressed_bytes=row.counters.dram_bytes or None,
                )
            )
        elif row.counters.host_macs:
            found.append(
                Work(
                    **common,  # type: ignore[arg-type]
                    on_host=True,
                    macs=row.counters.host_macs,
                    a_bits=_FLOAT_BITS,
                    b_bits=_FLOAT_BITS,
                    a_stored_bits=_FLOAT_BITS,
                    b_stored_bits=_FLOAT_BITS,
                )
            )
        elif row.mode in ELEMENT_MODES:
            found.append(_elements(row))
    return found


def _elements(row: LedgerRow) -> Work:
    """An element-wise operation: of the device where bytes were addressed, else of the host in float32."""
    on_host = not row.counters.dram_bytes
    bits = _FLOAT_BITS if on_host else operand_bits(row.mode)[0]
    return Work(
        layer=row.name,
        direction=row.mode,
        on_host=on_host,
        macs=row.counters.elementwise,
        a_bits=bits,
        b_bits=bits,
        a_stored_bits=bits,
        b_stored_bits=bits,
        a_reads_per_mac=0.0,  # they stream by
        b_reads_per_mac=0.0,
        a_values=row.a_values,
        b_values=row.b_values,
        results=row.results,
        addressed_bytes=row.counters.dram_bytes or None,
    )
