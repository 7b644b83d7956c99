# SPDX-License-Identifier: Apache-2.0
"""The text of a module as XLS writes it: one declaration, assignment or register update to a line."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field

__all__ = ["NAME", "Assigned", "ModuleText"]

NAME = re.compile(r"(?<![\w'$.])[A-Za-z_]\w*")
"""An identifier; neither a system function nor the digits of a literal."""

_DECLARATION = re.compile(r"  ((?:input |output )?(?:wire|reg)) (?:\[(\d+):0\] )?(\w+)(?:[;,]|$)")
_ASSIGN = re.compile(r"  assign (\w+) = (.*);$")
_UPDATE = re.compile(r"( +)(\w+) <= (.*);$")
_LITERAL = re.compile(r"\d+'h[0-9a-f_]+$")
_WRITTEN = re.compile(r"(\w+)(?:\[[^\]]*\])* <?= ")  # in a line of another form
_RESET_INDENT = 6


@dataclass(frozen=True, slots=True)
class Assigned:
    """Where a wire or a register takes which value; of a register, in which branch of which clocked block."""

    line: int
    value: str
    branch: int = 0


@dataclass(slots=True)
class ModuleText:
    """What the lines of a module declare, assign and update."""

    lines: list[str]
    widths: dict[str, int] = field(default_factory=dict)  # of every port, wire and register
    declared: dict[str, int] = field(default_factory=dict)  # lines of wires and registers that are no ports
    registers: set[str] = field(default_factory=set)
    wires: dict[str, Assigned] = field(default_factory=dict)  # their assignments
    updates: dict[str, Assigned] = field(default_factory=dict)
    resets: dict[str, Assigned] = field(default_factory=dict)
    readers: dict[str, set[str | None]] = field(default_factory=lambda: defaultdict(set))
    """Wires and registers whose values depend on a name; None for anything else that reads it."""

    @classmethod
    def parse(cls, text: str) -> ModuleText:
        """Read a module."""
        module = cls(text.split("\n"))
        for number, line in enumerate(module.lines):
            if match := _DECLARATION.match(line):
                kind, top, name = match.groups()
                module.widths[name] = int(top or 0) + 1
                if kind in ("wire", "reg"):
                    module.declared[name] = number
                    if kind == "reg":
                        module.registers.add(name)
            elif (match := _ASSIGN.match(line)) and match[1] in module.declared:
                module.wires[match[1]] = Assigned(number, match[2])
        module._read_clocked_blocks()
        module._find_readers()
        return module

    def _read_clocked_blocks(self) -> None:
        branch = 0
        twice = set()
        clocked = False
        for number, line in enumerate(self.lines):
            if line.startswith("  always_ff"):
                clocked = True
                branch += 1
            elif line == "  end":
                clocked = False
            elif clocked and line.lstrip().startswith(("if ", "else", "end")):
                branch += 1
            elif clocked and (match := _UPDATE.match(line)) and match[2] in self.registers:
                indent, name, value = match.groups()
                resets = len(indent) == _RESET_INDENT and _LITERAL.match(value)
                found = self.resets if resets else self.updates
                if name in found:
                    twice.add(name)
                found[name] = Assigned(number, value, branch)
        for name in twice:
            self.updates.pop(name, None)

    def _find_readers(self) -> None:
        known = set(self.declared.values())
        for readers in (self.wires, self.updates, self.resets):
            for reader, update in readers.items():
                known.add(update.line)
                for name in NAME.findall(update.value):
                    self.readers[name].add(reader)
        for number, line in enumerate(self.lines):
            if number not in known:
                for name in NAME.findall(line):
                    self.readers[name].add(None)
                if written := _WRITTEN.search(line):
                    self.updates.pop(written[1], None)
