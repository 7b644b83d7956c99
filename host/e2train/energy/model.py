# SPDX-License-Identifier: Apache-2.0
"""Modelled energy: operations that were executed, times a table of what each one costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from e2train.config.records import RecordError, check_record, kinds_of, load_toml, quoted
from e2train.energy.readings import EnergyError

__all__ = ["CostTable", "Modelled", "Work", "load_costs", "modelled"]

_TABLES = Path(__file__).with_name("costs.toml")
_ACCESS_BITS = 64
_PJ = 1e-12
_MOST = 1e12  # that a cost may be
_LEAST_PJ = 1e-12  # of a multiply-accumulate and its accesses: reports divide by what float32 and int8 cost


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """Picojoules of single operations."""

    name: str
    title: str
    note: str
    source: str
    float32_add_pj: float
    float32_mult_pj: float
    int_add_pj_per_bit: float
    int_mult_pj_per_bit: float
    int_mult_pj_per_bit2: float
    accumulator_bits: int
    sram_pj: float
    dram_pj: float

    def mac_pj(self, a_bits: int, b_bits: int) -> float:
        """A multiply-accumulate; 32 x 32 bits stand for float32.

        >>> table = load_costs()
        >>> round(table.mac_pj(32, 32), 3), round(table.mac_pj(8, 8), 3), round(table.mac_pj(4, 10), 3)
        (4.6, 0.3, 0.227)
        """
        if (a_bits, b_bits) == (32, 32):
            return self.float32_add_pj + self.float32_mult_pj
        square, mean = a_bits * b_bits, (a_bits + b_bits) / 2
        mult_pj = self.int_mult_pj_per_bit2 * square + self.int_mult_pj_per_bit * mean
        return mult_pj + self.int_add_pj_per_bit * self.accumulator_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one layer did in one direction."""

    layer: str
    direction: str
    on_host: bool = False
    macs: int
    a_bits: int  # that are multiplied
    b_bits: int
    a_stored_bits: int  # that are moved
    b_stored_bits: int
    a_reads_per_mac: float  # of the on-chip buffers: a value that serves n multipliers is read 1/n times
    b_reads_per_mac: float
    a_values: int  # of the tensors that come from and go to DRAM
    b_values: int
    results: int
    result_bits: int = 32
    addressed_bytes: int | None = None  # of DRAM, where they were counted

    @property
    def sram_bits(self) -> float:
        """Read from the on-chip buffers."""
        a_bits = self.a_stored_bits * self.a_reads_per_mac
        return self.macs * (a_bits + self.b_stored_bits * self.b_reads_per_mac)

    @property
    def dram_bits(self) -> int:
        """Read and written: as counted, else each tensor once."""
        if self.addressed_bytes is not None:
            return 8 * self.addressed_bytes
        a_bits, b_bits = self.a_values * self.a_stored_bits, self.b_values * self.b_stored_bits
        return a_bits + b_bits + self.results * self.result_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Modelled:
    """Joules by where they go; they add up."""

    arithmetic_j: float = 0.0
    sram_j: float = 0.0
    dram_j: float = 0.0

    @property
    def total_j(self) -> float:
        """Their sum."""
        return self.arithmetic_j + self.sram_j + self.dram_j

    def __add__(self, other: Modelled) -> Modelled:
        return Modelled(
            arithmetic_j=self.arithmetic_j + other.arithmetic_j,
            sram_j=self.sram_j + other.sram_j,
            dram_j=self.dram_j + other.dram_j,
        )


def modelled(works: Iterable[Work], table: CostTable) -> Modelled:
    """Energy of some work."""
    total = Modelled()
    for work in works:
        total += Modelled(
            arithmetic_j=work.macs * table.mac_pj(work.a_bits, work.b_bits) * _PJ,
            sram_j=work.sram_bits / _ACCESS_BITS * table.sram_pj * _PJ,
            dram_j=work.dram_bits / _ACCESS_BITS * table.dram_pj * _PJ,
        )
    return total


def load_costs(path: Path = _TABLES, name: str | None = None) -> CostTable:
    """A table of a TOML file; without a name its first.

    Raises: EnergyError when it is not there or not whole.
    """
    try:
        tables = load_toml(path)
    except OSError as error:
        raise EnergyError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError:
        raise EnergyError(f"{path} is nested too deeply; a cost table has numbers and text alone") from None
    except ValueError as error:
        raise EnergyError(f"{path} is not TOML: {error}") from error
    name = name or next(iter(tables), "")
    table = tables.get(name)
    if table is None:
        raise EnergyError(f"{path} has no table {name!r}; there are: {', '.join(tables) or 'none'}")
    kinds = kinds_of(CostTable, "name")
    try:
        check_record(table, kinds)
    except RecordError as error:
        raise EnergyError(f"{path}, table {name}: {error}") from None
    for key, value in table.items():
        if kinds[key] != "str" and not 0 <= value <= _MOST:
            raise EnergyError(
                f"{path}, table {name}: {key} must be a number in 0..{_MOST:g}, not {quoted(value)}"
            )
    costs = CostTable(name=name, **table)
    moved_pj = costs.sram_pj + costs.dram_pj
    if min(costs.mac_pj(32, 32), costs.mac_pj(8, 8)) + moved_pj < _LEAST_PJ:
        raise EnergyError(
            f"{path}, table {name}: float32 or int8 would cost nothing; set sram_pj or dram_pj "
            "above 0, or one of float32_* and one of int_*"
        )
    return costs
