# SPDX-License-Identifier: Apache-2.0
"""What was executed, per layer and mode, and what it amounts to: computation, and work that is priced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Literal, get_args

from e2train.config import EngineConfig
from e2train.devices.protocol import (
    OUTER_MODES,
    Counters,
    LayerCall,
    LayerResult,
    Mode,
    products_per_multiplier,
)
from e2train.energy import Work
from e2train.numerics.psg import Psg

__all__ = [
    "ELEMENT_MODES",
    "FULL_WIDTHS",
    "Ledger",
    "LedgerMode",
    "LedgerRow",
    "Widths",
    "computation",
    "merged",
    "operand_bits",
    "stored_widths",
    "works",
]

ElementMode = Literal["affine", "reduce", "load"]  # load: the host puts a tensor into the device's memory
LedgerMode = Mode | ElementMode
ELEMENT_MODES: tuple[ElementMode, ...] = get_args(ElementMode)
_FLOAT32 = (32, 32)
_ELEMENTS = (16, 16)  # coefficients and elements of affine and reduce
_WIDE_BITS = 64  # of full weight gradients on their way to the host
_RESULT_BITS = 32
_FLOAT_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """What one layer did in one mode; rows of the same layer and mode add up."""

    name: str
    mode: LedgerMode
    calls: int = 0
    saturations: int = 0
    elements: int = 0  # of grad_msb: gradient elements, and those whose signs it decided
    predicted: int = 0
    a_values: int = 0  # of the tensors of its calls: both operands and the result
    b_values: int = 0
    results: int = 0
    counters: Counters = field(default_factory=Counters)

    def __add__(self, other: LedgerRow) -> LedgerRow:
        return LedgerRow(
            name=self.name,
            mode=self.mode,
            calls=self.calls + other.calls,
            saturations=self.saturations + other.saturations,
            elements=self.elements + other.elements,
            predicted=self.predicted + other.predicted,
            a_values=self.a_values + other.a_values,
            b_values=self.b_values + other.b_values,
            results=self.results + other.results,
            counters=self.counters + other.counters,
        )


def merged(rows: Iterable[LedgerRow]) -> tuple[LedgerRow, ...]:
    """One row per layer and mode, in order of first appearance."""
    ledger = Ledger()
    for row in rows:
        ledger.enter(row)
    return ledger.snapshot()


class Ledger:
    """Adds up results by layer name and mode."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, LedgerMode], LedgerRow] = {}

    def enter(self, row: LedgerRow) -> None:
        """Add a row to the one of its layer and mode."""
        key = (row.name, row.mode)
        self._rows[key] = self._rows[key] + row if key in self._rows else row

    def add(self, call: LayerCall, result: LayerResult) -> None:
        """Enter one executed call."""
        self.enter(
            LedgerRow(
                name=call.name,
                mode=call.mode,
                calls=1,
                saturations=result.saturations,
                a_values=prod(call.a.shape),
                b_values=prod(call.b.shape),
                results=prod(result.value.shape),
                counters=result.counters,
            )
        )

    def add_signs(self, name: str, *, elements: int, predicted: int) -> None:
        """Enter how many signs of a layer's gradient were predicted."""
        self.enter(LedgerRow(name=name, mode="grad_msb", elements=elements, predicted=predicted))

    def snapshot(self) -> tuple[LedgerRow, ...]:
        """All rows as they are now, in order of first use."""
        return tuple(self._rows.values())

    def total(self) -> Counters:
        """The sum over all rows."""
        return sum((row.counters for row in self._rows.values()), Counters())

    @property
    def saturations(self) -> int:
        """Saturated elements over all rows."""
        return sum(row.saturations for row in self._rows.values())

    def restore(self, rows: Iterable[LedgerRow]) -> None:
        """Go back to a snapshot."""
        self._rows = {(row.name, row.mode): row for row in rows}

    def clear(self) -> None:
        """Remove all rows."""
        self._rows.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """What a run chooses of its operands' widths; activations and weights have 8 bits.

    The engine moves and multiplies output gradients of 16 bits, of which ``gradient_bits`` are in use.

    Raises: ValueError when there are no such gradients.
    """

    gradient_bits: int = 16
    psg: Psg = field(default_factory=Psg)

    def __post_init__(self) -> None:
        if not 4 <= self.gradient_bits <= 16:
            raise ValueError(f"gradient_bits must be in 4..16, not {self.gradient_bits}")


FULL_WIDTHS = Widths()


def operand_bits(mode: str, widths: Widths = FULL_WIDTHS) -> tuple[int, int]:
    """Widths of a device's operands in a mode.

    >>> operand_bits("grad_weight"), operand_bits("grad_msb")
    ((8, 16), (4, 10))
    """
    if mode == "grad_msb":
        return widths.psg.x_bits, widths.psg.g_bits
    gradient = widths.gradient_bits
    return {"forward": (8, 8), "grad_input": (gradient, 8), "grad_weight": (8, gradient)}.get(mode, _ELEMENTS)


def computation(rows: Iterable[LedgerRow], widths: Widths = FULL_WIDTHS) -> float:
    """Executed computation, in float32 multiply-accumulates: MACs x bits x bits / 1024.

    >>> from e2train.devices.protocol import Counters
    >>> rows = [LedgerRow(name="conv", mode="forward", counters=Counters(macs=1600))]
    >>> computation(rows)
    100.0
    """
    whole = _FLOAT32[0] * _FLOAT32[1]
    total = 0.0
    for row in rows:
        a, b = operand_bits(row.mode, widths)
        total += row.counters.macs * a * b / whole + row.counters.host_macs
    return total


def stored_widths(row: LedgerRow, widths: Widths) -> Widths:
    """The widths that a row's operands had in memory: resident gradients of 8 bits lie there as such."""
    return widths if row.counters.dram_bytes else FULL_WIDTHS


def works(rows: Iterable[LedgerRow], *, config: EngineConfig, widths: Widths = FULL_WIDTHS) -> list[Work]:
    """What each layer did in each direction, on the device and on the host.

    Buffers are read as the engine of ``config`` reads them: x serves all output lanes, twice where a
    multiplier makes two products; a weight serves one multiplier, as every output position reads it again;
    in weight gradients, gy serves all input lanes. Operands of fewer bits than the engine's are moved as wide
    as its own; resident gradients of 8 bits are moved as such, and resident operations address the bytes that
    were counted. What the host computes in float32 is counted as if the same array did so.
    """
    found = []
    for row in rows:
        outer = row.mode in OUTER_MODES
        stored = stored_widths(row, widths)
        products = products_per_multiplier(row.mode, stored.gradient_bits)
        common = {
            "layer": row.name,
            "direction": row.mode,
            "a_reads_per_mac": 1 / (config.oc_lanes * products),
            "b_reads_per_mac": 1 / config.ic_lanes if outer else 1.0,
            "a_values": row.a_values,
            "b_values": row.b_values,
            "results": row.results,
        }
        if row.counters.macs:
            a_bits, b_bits = operand_bits(row.mode, widths)
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
