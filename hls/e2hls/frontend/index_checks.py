# SPDX-License-Identifier: Apache-2.0
"""Indices of bits: each passes through a call of ``__hls_index``, which is taken out before the lowering.

A constant index outside of its number is an error, but only once it is known that the access is not in code
that never runs; until then the call stays, as a function that the passes may move and drop at will.
"""

from __future__ import annotations

import re

from e2hls.base.errors import HlsError
from e2hls.frontend.debug_info import DebugInfo
from e2hls.frontend.llvm_text import Function, Module, parse_line

__all__ = ["declare_checks", "fold_checks", "require_indices"]

_NAME = "@_Z11__hls_indexii("
_CALL = re.compile(
    rf"^(?P<result>%\S+) = (?:tail )?call (?:\w+ )*i32 {re.escape(_NAME)}i32 (?:noundef )?(?P<index>\S+), "
    r"i32 (?:noundef )?(?P<width>\d+)\)"
)


def declare_checks(module: Module) -> None:
    """Tell the passes that the call has no effect."""
    module.others = [
        re.sub(r"\)[^)]*$", ") nounwind willreturn speculatable memory(none)", line)
        if line.startswith("declare ") and _NAME in line
        else line
        for line in module.others
    ]


def fold_checks(function: Function) -> None:
    """Take out the calls whose index is a constant within its number."""
    found = ((line, _CALL.match(line)) for line in function.lines())
    function.edit({line: [_index(call)] for line, call in found if call and _within(call)})


def require_indices(function: Function, debug: DebugInfo) -> None:
    """Take out all calls.

    Raises: HlsError for a constant outside of its number.
    """
    replace = {}
    for line in function.lines():
        call = _CALL.match(line)
        if call is None:
            continue
        if call["index"].lstrip("-").isdigit() and not _within(call):
            raise HlsError(
                f"bit {call['index']} of a number of {call['width']} bits is accessed; "
                f"they are counted from 0 to {int(call['width']) - 1}",
                debug.loc(parse_line(line).attached.get("dbg", "")),
            )
        replace[line] = [_index(call)]
    function.edit(replace)


def _within(call: re.Match[str]) -> bool:
    return call["index"].isdigit() and int(call["index"]) < int(call["width"])


def _index(call: re.Match[str]) -> str:
    return f"{call['result']} = add i32 {call['index']}, 0"
