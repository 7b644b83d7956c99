# SPDX-License-Identifier: Apache-2.0
"""Values that a DATAFLOW function computes of its scalars and passes to processes: each computes its own.

Such a function runs nowhere: what it loads, a process loads when it starts, from the process that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Line, split_operands, unquote
from e2hls.frontend.pointers import Pointer, gep

__all__ = ["PassedValue", "PassedValues"]

_NAME = re.compile(r'%("[^"]*"|[\w.$-]+)')
_INTRINSIC = re.compile(r"^(?:tail )?call [^@]*@llvm\.(?!lifetime|assume|dbg)")
_OPS = (
    *("load", "zext", "sext", "trunc", "icmp", "select", "freeze", "add", "sub", "mul", "udiv", "sdiv"),
    *("urem", "srem", "and", "or", "xor", "shl", "lshr", "ashr"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedValue:
    """An argument, and the instructions that a process runs for it at its start, in order."""

    operand: str  # with its type
    lines: tuple[Line, ...]
    pointers: Mapping[str, Pointer]  # of what they load


class PassedValues:
    """The instructions of a DATAFLOW function whose results its processes may be given."""

    def __init__(self, layout: Layout, resolve: Callable[[str], Pointer]) -> None:
        """``resolve`` tells what an operand of the function points at."""
        self._layout = layout
        self._resolve = resolve
        self._lines: dict[str, Line] = {}
        self._needed: dict[str, list[str]] = {}
        self._pointers: dict[str, Pointer] = {}

    def take(self, line: Line, loc: Loc | None) -> bool:
        """Note an instruction; whether it is one whose result can be passed.

        Raises: HlsError for a load of which is known only at run time where from.
        """
        if line.op not in _OPS and not (line.result and _INTRINSIC.match(line.body)):
            return False
        body = line.body
        if line.op == "load":
            kind, pointer = split_operands(body.removeprefix("load ").removeprefix("volatile "))[:2]
            address = pointer.removeprefix("ptr ")
            at = (
                gep(address, self._layout, self._resolve)
                if address.startswith("getelementptr")
                else self._resolve(address)
            )
            if at.terms:
                raise HlsError("an element of an array is chosen at run time; choose it in a process", loc)
            self._pointers[_passed(f"{line.result}.at")] = at
            body, needed = f"load {kind}, ptr {_quoted(f'{line.result}.at')}", []
        else:
            needed = [unquote(name) for name in _NAME.findall(body)]
            body = _renamed(body)
        self._lines[line.result] = Line(_passed(line.result), body, line.attached)
        self._needed[line.result] = needed
        return True

    def find(self, argument: str) -> PassedValue | None:
        """What a process does for an argument; None for one that is no result of these instructions."""
        token = argument.split()[-1]
        name = unquote(token.removeprefix("%"))
        if not token.startswith("%") or name not in self._lines:
            return None
        wanted, left = set(), [name]
        while left:
            each = left.pop()
            if each in self._lines and each not in wanted:
                wanted.add(each)
                left += self._needed[each]
        lines = tuple(line for result, line in self._lines.items() if result in wanted)
        return PassedValue(
            operand=f"{argument.split()[0]} {_quoted(name)}", lines=lines, pointers=self._pointers
        )


def _passed(name: str) -> str:
    """A name that the process itself does not have."""
    return f"passed:{name}"


def _quoted(name: str) -> str:
    return f'%"{_passed(name)}"'


def _renamed(body: str) -> str:
    return _NAME.sub(lambda name: _quoted(unquote(name[1])), body)
