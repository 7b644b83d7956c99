# SPDX-License-Identifier: Apache-2.0
"""Which registers of a module are lanes of one another."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from e2hls.xls_verilog.lanes.module_text import NAME, ModuleText

__all__ = ["Family", "Leaf", "Shape", "find_families"]

_FEWEST = 8  # lanes that are worth a loop
_SHARED_BY = 4  # registers at most for which a wire is computed again
_OPERAND = re.compile(NAME.pattern + r"(?:\[(\d+)(?::(\d+))?\])?")
_EXTENDED = re.compile(r"\{\{(\d+)\{(\w+)\[(\d+)\]\}\}, (\w+)\}$")


@dataclass(frozen=True, slots=True)
class Leaf:
    """An operand that a lane does not compute: a name, or some bits of it."""

    name: str
    bits: str  # as "[7:0]", or nothing
    width: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What lanes have in common.

    ``reset`` is the branch and value of the register's reset. ``steps`` are the wires that a lane computes,
    width and expression, and ``value`` is the register's next value. In both, ``step0`` stands for a wire and
    ``leaf0`` for a leaf.
    """

    branch: int
    width: int
    reset: tuple[int, str]
    steps: tuple[tuple[int, str], ...]
    value: str
    leaf_widths: tuple[int, ...]


@dataclass(slots=True)
class Family:
    """Registers of one shape, in the order of their lanes, with the leaves of each."""

    shape: Shape
    lanes: list[str]
    leaves: dict[str, tuple[Leaf, ...]]
    wires: set[str] = field(default_factory=set)  # that the lanes compute

    def operands(self, number: int) -> list[Leaf]:
        """One leaf of every lane."""
        return [self.leaves[lane][number] for lane in self.lanes]


def find_families(module: ModuleText) -> list[Family]:
    """All families of at least eight lanes, each lane computing something of its own."""
    found: dict[Shape, Family] = {}
    private = _private_wires(module)
    for register in module.updates:
        shape, leaves, wires = _lane(module, register, private)
        if shape.steps and shape.width > 1:
            family = found.setdefault(shape, Family(shape, [], {}))
            family.lanes.append(register)
            family.leaves[register] = leaves
            family.wires.update(wires)
    families = [family for family in found.values() if len(family.lanes) >= _FEWEST]
    _order(module, families)
    return families


def _private_wires(module: ModuleText) -> set[str]:
    """Wires that nothing but a few registers depends on."""
    reached: dict[str, frozenset[str] | None] = {}

    def reach(name: str | None) -> frozenset[str] | None:
        if name not in module.wires:
            return None if name is None else frozenset((name,))
        if name not in reached:
            reached[name] = _union(map(reach, module.readers[name]))
        return reached[name]

    # Readers come after what they read, so that no recursion is deep.
    for wire in sorted(module.wires, key=lambda wire: module.wires[wire].line, reverse=True):
        reach(wire)
    return {wire for wire, registers in reached.items() if registers is not None}


def _union(sets: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    union: frozenset[str] = frozenset()
    for registers in sets:
        if registers is None or len(union := union | registers) > _SHARED_BY:
            return None
    return union


def _lane(module: ModuleText, register: str, private: set[str]) -> tuple[Shape, tuple[Leaf, ...], list[str]]:
    update = module.updates[register]
    wires = _computed_for(module, update.value, private)
    steps = {wire: f"step{number}" for number, wire in enumerate(wires)}
    leaves: dict[Leaf, str] = {}

    def operand(match: re.Match[str]) -> str:
        text = match[0]
        name = text.split("[")[0]
        if name in steps:
            return text.replace(name, steps[name], 1)
        if name not in module.widths:  # a function
            return text
        high, low = match.groups()
        width = int(high) - int(low or high) + 1 if high else module.widths[name]
        return leaves.setdefault(Leaf(name, text[len(name) :], width), f"leaf{len(leaves)}")

    def abstract(expression: str, width: int) -> str:
        if match := _EXTENDED.match(expression):  # as sign extension a compiler knows it again
            count, name, top, whole = match.groups()
            known = module.widths.get(name)
            if name == whole and known == int(top) + 1 and known + int(count) == width:
                expression = f"$signed({name})"
        return _OPERAND.sub(operand, expression)

    reset = module.resets.get(register)

    def step(name: str, value: str) -> tuple[int, str]:
        width = module.widths[name]
        return width, abstract(value, width)

    computed = tuple(step(wire, module.wires[wire].value) for wire in wires)
    width, value = step(register, update.value)
    shape = Shape(
        branch=update.branch,
        width=width,
        reset=(reset.branch, reset.value) if reset else (0, ""),
        steps=computed,
        value=value,
        leaf_widths=tuple(leaf.width for leaf in leaves),
    )
    return shape, tuple(leaves), wires


def _computed_for(module: ModuleText, value: str, private: set[str]) -> list[str]:
    """The private wires that a value depends on, each after those that it reads."""
    reads: dict[str, list[str]] = {}
    waiting = [name for name in NAME.findall(value) if name in private]
    while waiting:
        wire = waiting.pop()
        if wire not in reads:
            reads[wire] = [name for name in NAME.findall(module.wires[wire].value) if name in private]
            waiting += reads[wire]
    return list(TopologicalSorter(reads).static_order())


def _order(module: ModuleText, families: list[Family]) -> None:
    """Put lanes in an order in which families index each other simply.

    A word that packs a family says the order; other families follow those that read them, or that they read.
    """
    family_of = {lane: family for family in families for lane in family.lanes}
    open_families = {id(family): family for family in families}

    def settle(family: Family, lanes: list[str]) -> None:
        family.lanes = lanes
        del open_families[id(family)]
        for number in range(len(family.shape.leaf_widths)):
            names = [leaf.name for leaf in family.operands(number)]
            other = family_of.get(names[0])
            if other and id(other) in open_families and set(names) == set(other.lanes):
                settle(other, list(dict.fromkeys(names)))

    def follow(family: Family) -> bool:
        for number in range(len(family.shape.leaf_widths)):
            names = {lane: family.leaves[lane][number].name for lane in family.lanes}
            other = family_of.get(names[family.lanes[0]])
            if other and id(other) not in open_families and set(names.values()) == set(other.lanes):
                place = {name: at for at, name in enumerate(other.lanes)}
                settle(family, sorted(family.lanes, key=lambda lane: place[names[lane]]))
                return True
        return False

    for lanes in _packed(module, family_of):
        family = family_of[lanes[0]]
        if id(family) in open_families and set(lanes) == set(family.lanes):
            settle(family, lanes)
    while open_families:
        if not any(follow(family) for family in list(open_families.values())):
            family = next(iter(open_families.values()))
            settle(family, family.lanes)


def _packed(module: ModuleText, family_of: dict[str, Family]) -> Iterable[list[str]]:
    """Lanes of one family within a word, from the lowest bits up."""
    for line in module.lines:
        if match := re.search(r"= \{([^{}?]*)\};$", line):
            lanes: dict[int, list[str]] = defaultdict(list)
            for name in reversed(match[1].split(", ")):
                if name in family_of:
                    lanes[id(family_of[name])].append(name)
            yield from (list(dict.fromkeys(names)) for names in lanes.values())
