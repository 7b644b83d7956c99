# SPDX-License-Identifier: Apache-2.0
"""Writes families of lanes as arrays and loops.

A loop stands in a task of the module, so that Verilator makes its variables local ones, and reads each
operand before it computes, without a condition: both let a compiler vectorise it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from e2hls.xls_verilog.lanes.families import Family, find_families
from e2hls.xls_verilog.lanes.module_text import NAME, ModuleText

__all__ = ["roll_lanes"]

_OURS = re.compile(r"(row|column|lane|(leaf|step|lanes|roll_lanes)\d+\w*)$")  # names in the text written here
_HOLD = re.compile(r"(leaf\d+) \? (\w+) : (leaf\d+)$")
_KEEP_LOOP = "/* verilator unroll_disable */"
# Verilator extends the operands of a product by hand to any width but 64 bits.
_PRODUCT = re.compile(
    r"(function automatic \[(\d+):0\] smul(?:(?!endfunction).)*?reg signed \[)\d+(:0\] signed_result;)", re.S
)


def roll_lanes(verilog: str) -> str:
    """The same module, the same in every clock cycle; X aside, which two-state simulation does not have."""
    wider = _PRODUCT.sub(lambda match: f"{match[1]}{max(63, int(match[2]))}{match[3]}", verilog)
    module = ModuleText.parse(wider)
    families = find_families(module)
    if not families or any(map(_OURS.match, module.widths)):
        return verilog
    return _Writer(module, families).write()


@dataclass(frozen=True, slots=True)
class _Operand:
    """Where a loop takes a leaf from."""

    source: str
    level: Literal["before", "outer", "inner"]  # in the loop nest


@dataclass(slots=True)
class _Array:
    """A family as an array: of rows and columns where others have one value for each of either."""

    family: Family
    name: str
    columns: int = 0  # none: one dimension

    @property
    def dimensions(self) -> str:
        lanes = len(self.family.lanes)
        if self.columns:
            return f"[0:{lanes // self.columns - 1}][0:{self.columns - 1}]"
        return f"[0:{lanes - 1}]"

    @property
    def here(self) -> str:
        """An element in the loop."""
        return "[row][column]" if self.columns else "[lane]"

    def at(self, lane: int) -> str:
        """An element anywhere."""
        return f"[{lane // self.columns}][{lane % self.columns}]" if self.columns else f"[{lane}]"


@dataclass(slots=True)
class _Writer:
    """The text of a module whose families are arrays."""

    module: ModuleText
    families: list[Family]
    arrays: dict[str, _Array] = field(default_factory=dict)  # of each lane
    places: dict[str, int] = field(default_factory=dict)
    declarations: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)

    def write(self) -> str:
        columns = self._columns()
        for number, family in enumerate(self.families):
            array = _Array(family, f"lanes{number}", columns.get(len(family.lanes), 0))
            for place, lane in enumerate(family.lanes):
                self.arrays[lane] = array
                self.places[lane] = place
        instead: dict[int, list[str]] = {}
        first: dict[int, int] = {}  # line of a branch, where all its lanes are computed
        for family in _readers_first(self.families):
            rolled = self._roll(self.arrays[family.lanes[0]])
            update = self.module.updates[family.lanes[0]].line
            at = first.setdefault(family.shape.branch, update)
            lines, rolled[update] = rolled[update], []
            rolled[at] = instead.get(at, []) + lines
            instead |= rolled
        for wire in self._unused_wires():
            instead[self.module.declared[wire]] = instead[self.module.wires[wire].line] = []
        lines = [text for at, line in enumerate(self.module.lines) for text in instead.get(at, [line])]
        lines = [NAME.sub(lambda match: self._element(match[0]), line) for line in lines]
        end = max(at for at, line in enumerate(lines) if line.startswith("endmodule"))
        start = next(at for at, line in enumerate(lines) if line == ");") + 1
        return "\n".join([*lines[:start], *self.declarations, *lines[start:end], *self.tasks, *lines[end:]])

    def _element(self, name: str) -> str:
        array = self.arrays.get(name)
        return f"{array.name}{array.at(self.places[name])}" if array else name

    def _columns(self) -> dict[int, int]:
        """For families of a size, how many lanes make a row."""
        found: dict[int, int] = {}
        place = {lane: at for family in self.families for at, lane in enumerate(family.lanes)}
        size = {lane: len(family.lanes) for family in self.families for lane in family.lanes}
        for family in self.families:
            lanes = len(family.lanes)
            for number in range(len(family.shape.leaf_widths)):
                names = [leaf.name for leaf in family.operands(number)]
                few = size.get(names[0], lanes)
                if few < lanes and lanes % few == 0 and all(size.get(name) == few for name in names):
                    places = [place[name] for name in names]
                    if places == [at % few for at in range(lanes)]:
                        found.setdefault(lanes, few)
                    elif places == [at // (lanes // few) for at in range(lanes)]:
                        found.setdefault(lanes, lanes // few)
        return found

    def _operand(self, array: _Array, number: int) -> _Operand:
        leaves = array.family.operands(number)
        first, lanes = leaves[0], len(leaves)
        if len(set(leaves)) == 1:
            return _Operand(f"{self._element(first.name)}{first.bits}", "before")
        others = {id(self.arrays.get(leaf.name)) for leaf in leaves}
        other = self.arrays.get(first.name)
        if other and len(others) == 1 and len({leaf.bits for leaf in leaves}) == 1:
            places = [self.places[leaf.name] for leaf in leaves]
            if places == list(range(lanes)) and other.columns == array.columns:
                return _Operand(f"{other.name}{array.here}{first.bits}", "inner")
            if array.columns and not other.columns:
                if places == [at % array.columns for at in range(lanes)]:
                    return _Operand(f"{other.name}[column]{first.bits}", "inner")
                if places == [at // array.columns for at in range(lanes)]:
                    return _Operand(f"{other.name}[row]{first.bits}", "outer")
        return _Operand("", "inner")  # to be gathered

    def _roll(self, array: _Array) -> dict[int, list[str]]:
        """Declare an array and its task; what stands instead of the lines of its lanes."""
        lanes, shape, module = array.family.lanes, array.family.shape, self.module
        operands = {f"leaf{n}": self._operand(array, n) for n in range(len(shape.leaf_widths))}
        enable, steps, value = _without_hold(array, operands)
        text = " ".join((value, *(expression for _, expression in steps)))
        operands = {leaf: operand for leaf, operand in operands.items() if re.search(rf"\b{leaf}\b", text)}
        gathered = self._gather(array, operands)
        self._declare(shape.width, array.name, array)
        self._declare(shape.width, f"{array.name}_next", array)
        self._write_task(array, operands, steps, value)
        rolled = [*gathered, f"roll_{array.name};"]
        if enable:
            rolled = [f"if ({enable}) begin", *rolled, "end"]
        instead: dict[int, list[str]] = {}
        for lane in lanes:
            instead[module.declared[lane]] = instead[module.updates[lane].line] = []
        instead[module.updates[lanes[0]].line] = [f"        {line}" for line in rolled]
        if shape.reset[1]:
            instead |= {module.resets[lane].line: [] for lane in lanes}
            default = f"'{{default: {shape.reset[1]}}}"
            default = f"'{{default: {default}}}" if array.columns else default
            instead[module.resets[lanes[0]].line] = [f"      {array.name} <= {default};"]
        return instead

    def _gather(self, array: _Array, operands: dict[str, _Operand]) -> list[str]:
        """Copies of leaves into arrays of their own, where nothing else has them in order."""
        copies = []
        for leaf, operand in operands.items():
            if not operand.source:
                number = int(leaf.removeprefix("leaf"))
                source = f"{array.name}_{leaf}"
                self._declare(array.family.shape.leaf_widths[number], source, array)
                operands[leaf] = _Operand(f"{source}{array.here}", "inner")
                copies += [
                    f"{source}{array.at(at)} = {self._element(part.name)}{part.bits};"
                    for at, part in enumerate(array.family.operands(number))
                ]
        return copies

    def _declare(self, width: int, name: str, array: _Array) -> None:
        self.declarations.append(f"  reg [{width - 1}:0] {name} {array.dimensions};")

    def _write_task(
        self, array: _Array, operands: dict[str, _Operand], steps: list[tuple[int, str]], value: str
    ) -> None:
        def reads(level: str) -> list[str]:
            return [
                f"{leaf} = {operand.source};" for leaf, operand in operands.items() if operand.level == level
            ]

        widths = array.family.shape.leaf_widths
        local = [f"reg [{widths[int(leaf.removeprefix('leaf'))] - 1}:0] {leaf};" for leaf in operands]
        local += [f"reg [{width - 1}:0] step{number};" for number, (width, _) in enumerate(steps)]
        body = [*reads("inner"), *(f"step{number} = {text};" for number, (_, text) in enumerate(steps))]
        body.append(f"{array.name}_next{array.here} = {value};")
        lanes = len(array.family.lanes)
        if array.columns:
            body = [*reads("outer"), *_loop("column", array.columns, body)]
            body = _loop("row", lanes // array.columns, body)
        else:
            body = _loop("lane", lanes, body)
        self.tasks += [
            f"  task automatic roll_{array.name};",
            *(f"    {line}" for line in local),
            *(f"    reg [31:0] {index};" for index in (("row", "column") if array.columns else ("lane",))),
            "    begin",
            *(f"      {line}" for line in (*reads("before"), *body)),
            f"      {array.name} <= {array.name}_next;",
            "    end",
            "  endtask",
        ]

    def _unused_wires(self) -> set[str]:
        """Wires that nothing but lanes has read."""
        candidates = {wire for family in self.families for wire in family.wires}
        unused: set[str | None] = set(self.arrays)
        while found := {wire for wire in candidates if self.module.readers[wire] <= unused}:
            unused |= found
            candidates -= found
        return {name for name in unused if name in self.module.wires}


def _without_hold(array: _Array, operands: dict[str, _Operand]) -> tuple[str, list[tuple[int, str]], str]:
    """When lanes take another value at all, and steps and value then: otherwise nothing need be computed."""
    shape = array.family.shape
    steps = list(shape.steps)
    if shape.value == f"step{len(steps) - 1}" and (hold := _HOLD.match(steps[-1][1])):
        condition, value, kept = hold.groups()
        of_one_width = steps[-1][0] == shape.width
        own = f"{array.name}{array.here}"
        if of_one_width and operands[condition].level == "before" and operands[kept].source == own:
            return operands[condition].source, steps[:-1], value
    return "", steps, shape.value


def _readers_first(families: list[Family]) -> list[Family]:
    """Families in an order in which few have changed before another reads them: Verilator copies those."""
    family_of = {lane: number for number, family in enumerate(families) for lane in family.lanes}
    reads = {
        number: {family_of.get(leaf.name) for leaves in family.leaves.values() for leaf in leaves} - {number}
        for number, family in enumerate(families)
    }
    order: list[Family] = []
    while reads:
        read = set().union(*reads.values())
        number = next((number for number in reads if number not in read), next(iter(reads)))
        del reads[number]
        order.append(families[number])
    return order


def _loop(index: str, count: int, body: list[str]) -> list[str]:
    head = f"for ({index} = 0; {index} < {count}; {index} = {index} + 1) begin"
    return [_KEEP_LOOP, head, *(f"  {line}" for line in body), "end"]
