# SPDX-License-Identifier: Apache-2.0
"""Indices into arrays that have several dimensions, or lie in a struct: LLVM is not to see through them.

It adds up all constants of an address, and to it ``[i - 1][j + 1]`` of rows of 8 is ``[i][j - 7]`` as well:
the dimensions are lost in the sum. So each such index passes through a call of a function without a body. One
that has become constant is taken out, for LLVM to fold; the lowering passes over others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Function, Module, parse_line, split_operands

__all__ = ["HIDDEN", "fold_indices", "hide_indices", "is_hidden", "is_step"]

HIDDEN = "@__hls_place."
"""What functions are called that give back an index as it is; the type of the index follows."""

_RESULT = "%hls.place."
_STEP = "%hls.place.from."  # an index behind a pointer, which may lead out of the row that it points into
_GEP = re.compile(r"^getelementptr (?:(?:inbounds|nusw|nuw) )*(?P<rest>.*)$")
_STREAMS = "hls::stream"  # arrays of these hold no numbers
_INDEX = re.compile(r"^(?P<type>i\d+) (?P<value>%\S+)$")
_CALL = re.compile(
    rf"^(?P<result>{_RESULT}\S+) = (?:tail )?call (?:\w+ )*(?P<type>i\d+) {re.escape(HIDDEN)}i\d+"
    r"\(i\d+ (?:\w+ )*(?P<index>\S+)\)"
)


def hide_indices(
    module: Module, functions: list[Function], layout: Layout, type_of: Callable[[str, str], str | None]
) -> None:
    """Let the variable indices of such arrays pass through calls.

    ``type_of`` gives the type of the variable that an operand of a function names, None for anything else.
    """
    used: set[str] = set()
    number = 0
    for function in functions:
        bases: dict[str, str] = {}
        replace: dict[str, list[str]] = {}
        for text in function.lines():
            line = parse_line(text)
            gep = _GEP.match(line.body)
            if gep is None:
                continue
            kind, base, *indices = split_operands(gep["rest"])
            root = bases[text.partition(" = ")[0]] = _root(base, bases)
            variable = type_of(function.name, root)
            if _STREAMS in (variable or kind) or (variable and _is_plain(variable, layout)):
                continue
            calls, at = [], f", !dbg !{line.attached['dbg']}" if "dbg" in line.attached else ""
            for position, index in enumerate(indices):
                found = _INDEX.match(index)
                if found is None:
                    continue
                number += 1
                used.add(found["type"])
                hidden = f"{_RESULT if position else _STEP}{number}"
                calls.append(f"{hidden} = call {found['type']} {HIDDEN}{found['type']}({index}){at}")
                indices[position] = f"{found['type']} {hidden}"
            if calls:
                replace[text] = [*calls, text.replace(gep["rest"], ", ".join([kind, base, *indices]), 1)]
        function.edit(replace)
    for kind in sorted(used):
        module.others.append(
            f"declare {kind} {HIDDEN}{kind}({kind}) nounwind willreturn speculatable memory(none)"
        )


def fold_indices(function: Function) -> bool:
    """Take out the calls whose index is constant; tell whether there were any."""
    replace = {}
    for text in function.lines():
        call = _CALL.match(text)
        if call and call["index"].lstrip("-").isdigit():
            replace[text] = [f"{call['result']} = add {call['type']} {call['index']}, 0"]
    function.edit(replace)
    return bool(replace)


def is_hidden(operand: str) -> bool:
    """Whether a typed operand is an index as the source has it.

    >>> is_hidden("i64 %hls.place.3"), is_hidden("i64 %i")
    (True, False)
    """
    return operand.split()[-1].startswith(_RESULT)


def _root(base: str, bases: Mapping[str, str]) -> str:
    """The operand that an address starts from."""
    name = re.search(r"@(?:\"[^\"]*\"|[\w.$-]+)", base) if "getelementptr" in base else None
    token = name[0] if name else base.split()[-1]
    return bases.get(token, token)


def _is_number(kind: str, layout: Layout) -> bool:
    return sum(1 for _ in layout.scalars(kind)) == 1


def _is_plain(kind: str, layout: Layout) -> bool:
    """Whether a variable is an array of one dimension of numbers, or one number."""
    step = layout.step(kind)
    return _is_number(kind if step is None else step[0], layout) and not (step and layout.step(step[0]))


def is_step(operand: str) -> bool:
    """Whether it is one of these behind a pointer, not behind an array.

    >>> is_step("i64 %hls.place.from.3"), is_step("i64 %hls.place.3")
    (True, False)
    """
    return operand.split()[-1].startswith(_STEP)
