# SPDX-License-Identifier: Apache-2.0
"""Turns accesses through a chosen address into choices between accesses.

``x = c ? a : b`` on class objects makes LLVM choose between two addresses. Hardware has none: both variables
are read and one value is chosen; on a write, each variable takes the new value or keeps its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from e2hls.frontend.llvm_text import Function, Line, parse_line, split_operands, unquote

__all__ = ["resolve_choices"]

_PHI = re.compile(r"^phi ptr (?P<pairs>.*)$")
_SELECT = re.compile(r"^select (?P<cond>i1 \S+), ptr (?P<then>\S+), ptr (?P<other>\S+)$")
_GEP = re.compile(r"^(?P<head>getelementptr .*?), ptr (?P<base>[%@]\S+?)(?P<indices>(?:, i\d+ \S+)+)$")
_LOAD = re.compile(r"^load (?P<type>i\d+), ptr (?P<pointer>%\S+?)(?:, align \d+)?$")
_STORE = re.compile(r"^store (?P<type>i\d+) (?P<value>\S+), ptr (?P<pointer>%\S+?)(?:, align \d+)?$")
_LOCAL = re.compile(r'%(?:"[^"]*"|[\w.$-]+)')
_MAX_LEAVES = 16


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A variable and the address steps from it."""

    root: str
    steps: tuple[tuple[str, str], ...] = ()  # text before the base, text after it

    def locals(self) -> set[str]:
        names = {self.root} if self.root.startswith("%") else set()
        return names | {name for _, indices in self.steps for name in _LOCAL.findall(indices)}


def resolve_choices(function: Function) -> bool:
    """Rewrite the loads and stores through chosen addresses; tell whether there were any."""
    if not any("phi ptr" in line or (", ptr " in line and " = select " in line) for line in function.lines()):
        return False
    return _Resolver(function).run()


class _Resolver:
    def __init__(self, function: Function) -> None:
        self._function = function
        self._lines = {
            label: [parse_line(text) for text in lines] for label, lines in function.blocks.items()
        }
        self._definitions = {
            f"%{line.result}": (label, line)
            for label, lines in self._lines.items()
            for line in lines
            if line.result
        }
        self._chosen = {
            name
            for name, (_, line) in self._definitions.items()
            if _PHI.match(line.body) or _SELECT.match(line.body)
        }
        self._numbers: dict[_Leaf, int] = {}
        self._fresh = 0
        text = str(function)
        self._stem = next(stem for i in range(100) if (stem := f"hls.choice{i}") not in text)

    def run(self) -> bool:
        leaves = {name: self._leaves(name, set()) for name in self._chosen}
        dominated = self._function.flow().dominators
        good = {
            name: found
            for name, found in leaves.items()
            if found and len(found) <= _MAX_LEAVES and self._stay(name, found, dominated)
        }
        while bad := [name for name in good if not self._has_companion(name, good)]:
            good = {name: found for name, found in good.items() if name not in bad}
        if not good:
            return False
        changed = False
        for label in self._function.blocks:
            changed |= self._rewrite_block(label, good, dominated)
        if changed:
            self._add_companions(good)
        return changed

    def _stay(
        self, name: str, leaves: Mapping[_Leaf, None], dominated: Mapping[str, tuple[str, ...]]
    ) -> bool:
        """Whether the indices of addresses are still what they were when a phi has chosen one of these."""
        label, line = self._definitions[name]
        if line.op != "phi":
            return True
        before = set(dominated.get(label, ())) - {label}
        indices = {each for leaf in leaves for each in leaf.locals() & self._definitions.keys()}
        return all(self._definitions[each][0] in before for each in indices)

    def _leaves(self, name: str, seen: set[str]) -> dict[_Leaf, None] | None:
        """Every address that ``name`` may be, or None where that is not known."""
        if name in seen:
            return {}
        seen = seen | {name}
        _, line = self._definitions.get(name, ("", None))
        if name.startswith("@") or line is None or line.op == "alloca":
            return {_Leaf(name): None} if name.startswith(("@", "%")) else None
        gep = _GEP.match(line.body)
        if gep:
            inner = self._leaves(gep["base"], seen)
            step = gep["head"], gep["indices"]
            if not inner:  # unknown, or a step on from the choice itself: it walks
                return None
            return {_Leaf(leaf.root, (*leaf.steps, step)): None for leaf in inner}
        found: dict[_Leaf, None] = {}
        for operand in _operands(line):
            inner = self._leaves(operand, seen)
            if inner is None:
                return None
            found |= inner
        return found or None

    def _has_companion(self, name: str, good: Mapping[str, dict[_Leaf, None]]) -> bool:
        """Whether each operand is one variable or a choice itself, not an address within a choice."""
        for operand in _operands(self._definitions[name][1]):
            source = self._source(operand, good)
            if source is None and self._source(operand, self._chosen) is not None:
                return False
            leaves = self._leaves(operand, set()) or {}
            if len(leaves) != 1 if source is None else source[1]:
                return False
        return True

    def _source(self, pointer: str, good: Collection[str]) -> tuple[str, tuple[tuple[str, str], ...]] | None:
        """The choice that a pointer comes from, and the steps from there."""
        steps: tuple[tuple[str, str], ...] = ()
        while pointer not in good:
            _, line = self._definitions.get(pointer, ("", None))
            gep = _GEP.match(line.body) if line else None
            if gep is None:
                return None
            steps = ((gep["head"], gep["indices"]), *steps)
            pointer = gep["base"]
        return pointer, steps

    def _rewrite_block(
        self, label: str, good: Mapping[str, dict[_Leaf, None]], dominated: Mapping[str, tuple[str, ...]]
    ) -> bool:
        out: list[str] = []
        changed = False
        for text, line in zip(self._function.blocks[label], self._lines[label], strict=True):
            access = _LOAD.match(line.body) or _STORE.match(line.body)
            source = self._source(access["pointer"], good) if access else None
            if access is None or source is None:
                out.append(text)
                continue
            name, steps = source
            leaves = [_Leaf(leaf.root, leaf.steps + steps) for leaf in good[name]]
            if not all(self._reaches(leaf, label, dominated) for leaf in leaves):
                out.append(text)
                continue
            changed = True
            numbers = [self._number(leaf) for leaf in good[name]]
            out += self._access(access, line, leaves, numbers, self._which(name))
        self._function.blocks[label] = out
        return changed

    def _reaches(self, leaf: _Leaf, label: str, dominated: Mapping[str, tuple[str, ...]]) -> bool:
        places = (self._definitions[name][0] for name in leaf.locals() if name in self._definitions)
        return all(place in dominated.get(label, ()) for place in places)

    def _number(self, leaf: _Leaf) -> int:
        return self._numbers.setdefault(leaf, len(self._numbers))

    def _access(
        self, access: re.Match[str], line: Line, leaves: list[_Leaf], numbers: list[int], which: str
    ) -> list[str]:
        """The same load or store, once for each variable."""
        at = f", !dbg !{line.attached['dbg']}" if "dbg" in line.attached else ""
        kind, out, value = access["type"], [], ""
        for leaf, number in zip(leaves, numbers, strict=True):
            self._fresh += 1
            stem = f"%{self._stem}.{self._fresh}"
            pointer = leaf.root
            for index, (head, indices) in enumerate(leaf.steps):
                out.append(f"{stem}.at.{index} = {head}, ptr {pointer}{indices}{at}")
                pointer = f"{stem}.at.{index}"
            out += [
                f"{stem}.is = icmp eq i32 {which}, {number}{at}",
                f"{stem}.old = load {kind}, ptr {pointer}{at}",
            ]
            if line.op == "store":
                out += [
                    f"{stem}.new = select i1 {stem}.is, {kind} {access['value']}, {kind} {stem}.old{at}",
                    f"store {kind} {stem}.new, ptr {pointer}{at}",
                ]
            elif value:
                out.append(f"{stem}.new = select i1 {stem}.is, {kind} {stem}.old, {kind} {value}{at}")
                value = f"{stem}.new"
            else:
                value = f"{stem}.old"
        if line.op == "load":
            out.append(f"%{_quote(line.result)} = freeze {kind} {value}{at}")
        return out

    def _add_companions(self, good: Mapping[str, dict[_Leaf, None]]) -> None:
        """Beside each chosen pointer, the number of the variable that it points at."""
        for name in good:
            label, line = self._definitions[name]
            lines = self._function.blocks[label]
            at = next(i for i, text in enumerate(lines) if text.startswith(f"{name} = "))
            phi = _PHI.match(line.body)
            if phi:
                pairs = re.findall(r'\[ (\S+), (%(?:"[^"]*"|[\w.$-]+)) \]', phi["pairs"])
                body = "phi i32 " + ", ".join(
                    f"[ {self._companion(value, good)}, {block} ]" for value, block in pairs
                )
            else:
                select = _SELECT.match(line.body)
                assert select
                then, other = self._companion(select["then"], good), self._companion(select["other"], good)
                body = f"select {select['cond']}, i32 {then}, i32 {other}"
            lines.insert(at, f"{self._which(name)} = {body}")

    def _which(self, name: str) -> str:
        return f'%"{self._stem}.which.{unquote(name[1:])}"'

    def _companion(self, value: str, good: Mapping[str, dict[_Leaf, None]]) -> str:
        source = self._source(value, good)
        if source is not None and not source[1]:
            return self._which(source[0])
        leaves = self._leaves(value, set())
        assert leaves
        return str(self._number(next(iter(leaves))))


def _operands(line: Line) -> list[str]:
    phi, select = _PHI.match(line.body), _SELECT.match(line.body)
    if phi:
        return [part.strip("[] ").split(",")[0] for part in split_operands(phi["pairs"])]
    return [select["then"], select["other"]] if select else []


def _quote(name: str) -> str:
    return name if re.fullmatch(r"[\w.$-]+", name) else f'"{name}"'
