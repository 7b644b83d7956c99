# SPDX-License-Identifier: Apache-2.0
"""A module of LLVM IR as text that can be read, edited and written back.

Only the shape is parsed here: functions, blocks, instructions as lines, metadata nodes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from e2hls.ir.flow_graph import FlowGraph

__all__ = ["Function", "Line", "Module", "parse_line", "parse_module", "split_operands", "unquote"]

_LABEL = re.compile(r'^(?P<label>"[^"]*"|[\w.$-]+):')
_NAME = r'(?:"[^"]*"|[\w.$-]+)'
_DEFINE = re.compile(rf"^define .*?@(?P<name>{_NAME})\((?P<params>.*)\)[^)]*\{{$")
_PARAM = re.compile(rf"^(?P<type>\S+).*?%(?P<name>{_NAME})$")
_METADATA = re.compile(r"^!(?P<number>\d+) = (?P<node>.*)$")
_ATTACHED = re.compile(r"(?:, !(?P<kind>[\w.]+) !(?P<number>\d+))")
_TARGET = re.compile(rf"label %(?P<name>{_NAME})")
_RESULT = re.compile(rf"^%(?P<name>{_NAME}) = ")


@dataclass(slots=True)
class Function:
    """A defined function; the first block is the entry."""

    name: str
    header: str
    params: tuple[tuple[str, str], ...]  # (type, name)
    blocks: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        body = "\n".join(
            f"{_quoted(label)}:\n" + "\n".join(f"  {line}" for line in lines)
            for label, lines in self.blocks.items()
        )
        return f"{self.header}\n{body}\n}}"

    def lines(self) -> Iterator[str]:
        """All instructions, block by block."""
        for lines in self.blocks.values():
            yield from lines

    def flow(self) -> FlowGraph:
        """The blocks as a graph."""
        targets = {label: _targets(lines) for label, lines in self.blocks.items()}
        return FlowGraph(next(iter(self.blocks)), targets)

    def edit(self, replace: dict[str, list[str]]) -> None:
        """Put other lines in the place of those that are keys."""
        for label, lines in self.blocks.items():
            self.blocks[label] = [new for line in lines for new in replace.get(line, [line])]


@dataclass(slots=True)
class Module:
    """Functions by name, metadata nodes by number, and all other lines as they were."""

    functions: dict[str, Function]
    metadata: dict[str, str]
    others: list[str]

    def __str__(self) -> str:
        nodes = (f"!{number} = {node}" for number, node in self.metadata.items())
        return "\n".join([*self.others, *map(str, self.functions.values()), *nodes]) + "\n"

    def add_node(self, node: str) -> str:
        """Add a metadata node and return its number; ``SELF`` in it stands for its own reference."""
        free = itertools.count(len(self.metadata))  # nodes are numbered from 0, as a rule without gaps
        number = next(number for number in map(str, free) if number not in self.metadata)
        self.metadata[number] = node.replace("SELF", f"!{number}")
        return number


@dataclass(frozen=True, slots=True)
class Line:
    """One instruction: ``body`` is its text without the result and the attached metadata."""

    result: str
    body: str
    attached: dict[str, str]

    @property
    def op(self) -> str:
        """The opcode; a call's tail marker is not part of it."""
        words = self.body.split(None, 2)
        return words[1] if words[0] in ("tail", "musttail", "notail") else words[0]


def parse_module(text: str) -> Module:
    """Read what clang or LLVM printed."""
    module = Module(functions={}, metadata={}, others=[])
    function: Function | None = None
    block: list[str] = []
    for raw in text.splitlines():
        if function is None:
            function = _outside(raw, module)
            continue
        if raw == "}":
            function = None
            continue
        label = _LABEL.match(raw)
        if label:
            block = function.blocks[unquote(label["label"])] = []
            continue
        line = raw.strip()
        if line.startswith("#dbg_label") or not line or line.startswith(";"):
            continue
        if not function.blocks:
            block = function.blocks["entry"] = []
        if block and block[-1].startswith("switch") and not block[-1].split(", !")[0].endswith("]"):
            block[-1] += " " + line
        else:
            block.append(line)
    return module


def _outside(raw: str, module: Module) -> Function | None:
    define = _DEFINE.match(raw)
    if define:
        params = (_PARAM.match(param) for param in split_operands(define["params"]))
        found = tuple((param["type"], unquote(param["name"])) for param in params if param)
        function = Function(name=unquote(define["name"]), header=raw, params=found)
        module.functions[function.name] = function
        return function
    node = _METADATA.match(raw)
    if node:
        module.metadata[node["number"]] = node["node"]
    elif not raw.startswith(";"):
        module.others.append(raw)
    return None


@lru_cache(maxsize=1 << 17)
def parse_line(text: str) -> Line:
    """Split one instruction into its result, its body and its metadata."""
    attached = {}
    start = text.find(", !")
    if start >= 0:
        attached = {found["kind"]: found["number"] for found in _ATTACHED.finditer(text, start)}
        text = text[:start]
    text = re.sub(r" #\d+$", "", text)
    result = _RESULT.match(text)
    if result:
        return Line(unquote(result["name"]), text[result.end() :], attached)
    return Line("", text, attached)


def split_operands(text: str) -> list[str]:
    """Split at the commas that are in no bracket and no string.

    >>> split_operands("ptr %a, [2 x { i8, i8 }] %b")
    ['ptr %a', '[2 x { i8, i8 }] %b']
    """
    parts, depth, quoted, start = [], 0, False, 0
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char in "([{<":
            depth += 1
        elif char in ")]}>":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    tail = text[start:].strip()
    return [*parts, tail] if tail else parts


def unquote(name: str) -> str:
    """A name without the quotes that LLVM puts round unusual ones."""
    return name[1:-1] if name.startswith('"') else name


def _targets(lines: list[str]) -> tuple[str, ...]:
    """Where a block's last instruction may go, each block once."""
    return tuple(dict.fromkeys(map(unquote, _TARGET.findall(lines[-1])))) if lines else ()


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.$-]+", name) else f'"{name}"'
