# SPDX-License-Identifier: Apache-2.0
"""Accesses to arrays, and the arrays whose elements are registers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from e2hls.backend.bit_slices import Value, constant
from e2hls.backend.xls_text import ProcText
from e2hls.base.errors import Loc
from e2hls.ir import Array, Const, Process
from e2hls.passes.regions import Flow

__all__ = ["Access", "Registers", "Site", "Usage", "in_registers", "matches", "usage_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where an access stands: its block, and whether this activation runs it."""

    label: str
    when: Value
    loc: Loc | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Access:
    """One load or store of a bank, or of a register."""

    site: Site
    chosen: Value  # whether the indices name this bank or register
    when: Value
    address: Value
    data: Value | None = None


@dataclass(slots=True, kw_only=True)
class Usage:
    """How a process accesses an array."""

    constant: list[bool]  # by dimension: every index is a constant
    loads: int = 0
    stores: int = 0


def usage_of(process: Process) -> dict[str, Usage]:
    """By array."""
    usage: dict[str, Usage] = {}
    dims = {array.name: len(array.dims) for array in process.arrays}
    for block in process.blocks:
        for instr in block.instrs:
            if instr.op in ("load", "store"):
                used = usage.setdefault(instr.target, Usage(constant=[True] * dims[instr.target]))
                for dim in range(dims[instr.target]):
                    used.constant[dim] &= isinstance(instr.args[dim], Const)
                used.loads += instr.op == "load"
                used.stores += instr.op == "store"
    return usage


def in_registers(array: Array, used: Usage) -> bool:
    """Whether every element is a register of its own."""
    indices = zip(array.partitioned, used.constant, strict=True)
    return array.scope != "shared" and all(split or fixed for split, fixed in indices)


def matches(
    text: ProcText, array: Array, dims: Sequence[int], indices: Sequence[Value]
) -> list[tuple[tuple[int, ...], Value]]:
    """All positions along ``dims`` that the indices may name, each with the condition that they do."""
    out = []
    for place in itertools.product(*(range(array.dims[dim]) for dim in dims)):
        when = constant(1, 1)
        for dim, at in zip(dims, place, strict=True):
            when = text.bit_and(when, text.equals(indices[dim], at))
        if not when.is_zero():
            out.append((place, when))
    return out


class Registers:
    """An array whose elements are state elements."""

    def __init__(self, text: ProcText, flow: Flow, array: Array) -> None:
        self.text = text
        self.flow = flow
        self.array = array
        self.dims = range(len(array.dims))
        self.stores: dict[tuple[int, ...], list[Access]] = {}

    def _element(self, place: tuple[int, ...]) -> Value:
        index = 0
        for dim, at in zip(self.array.dims, place, strict=True):
            index = index * dim + at
        init = self.array.init[index] if self.array.init else 0
        return self.text.state(f"{self.array.name}_{index}", self.array.width, init)

    def load(self, site: Site, indices: Sequence[Value]) -> Value:
        text, flow = self.text, self.flow
        result: Value | None = None
        for place, when in matches(text, self.array, self.dims, indices):
            value = self._element(place)
            for store in self.stores.get(place, []):
                assert store.data is not None
                if site.label == store.site.label:
                    value = text.select(store.address, store.data, value)
                elif site.label in flow.reached[store.site.label]:
                    value = text.select(store.when, store.data, value)
            result = value if result is None else text.select(when, value, result)
        return constant(self.array.width, 0) if result is None else result

    def store(self, site: Site, indices: Sequence[Value], value: Value) -> None:
        text = self.text
        for place, chosen in matches(text, self.array, self.dims, indices):
            self._element(place)
            when = text.bit_and(site.when, chosen)
            access = Access(site=site, chosen=chosen, when=when, address=chosen, data=value)
            self.stores.setdefault(place, []).append(access)

    def finish(self) -> None:
        text, flow = self.text, self.flow
        for place, stores in self.stores.items():
            name = self._element(place).parts[0].node
            for index, store in enumerate(stores):
                later = [
                    s.when for s in stores[index + 1 :] if s.site.label in flow.reached[store.site.label]
                ]
                when = text.bit_and(store.when, text.bit_not(text.any(later)))
                assert store.data is not None
                text.next_value(name, store.data, when)
