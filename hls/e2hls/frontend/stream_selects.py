# SPDX-License-Identifier: Apache-2.0
"""An access to a stream of an array, chosen by a variable, becomes an access to each of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Function, Line, parse_line, unquote
from e2hls.frontend.memory_intrinsics import renamed_phi
from e2hls.frontend.pointers import Pointer, gep

__all__ = ["resolve_streams"]

_CALL = re.compile(
    r"^(?:tail )?call (?P<gives>\S+) (?P<name>@__hls_(?:read|write|attach)\.[\d.]+)"
    r"\(ptr (?:[a-z]+ )*(?P<pointer>%(?:\"[^\"]*\"|[\w.$-]+))(?P<rest>.*)\)$"
)
_STATE = re.compile(
    r"^(?:tail )?call (?P<gives>(?:\w+ )*i1) (?P<name>@_Z1[01]__hls_(?:empty|full)PKv)"
    r"\(ptr (?:[a-z]+ )*(?P<pointer>%(?:\"[^\"]*\"|[\w.$-]+))(?P<rest>.*)\)$"
)
_MOST = 64


@dataclass(frozen=True, slots=True)
class _Access:
    """A call, and the stream that it leads to: the ``index``-th of ``count``, ``step`` bytes apart."""

    call: re.Match[str]
    base: str
    offset: int
    index: str
    step: int
    count: int


def resolve_streams(function: Function, counts: Mapping[str, int], layout: Layout) -> None:
    """Rewrite the accesses through variable indices; ``counts`` says how many streams a variable holds."""
    number = 0
    for label in list(function.blocks):
        while True:
            definitions = {line.result: line for line in map(parse_line, function.lines()) if line.result}
            at = next(
                (
                    (place, access)
                    for place, text in enumerate(function.blocks[label])
                    if (access := _access(parse_line(text), definitions, counts, layout))
                ),
                None,
            )
            if at is None:
                break
            label = _expand(function, label, *at, number)
            number += 1


def _access(
    line: Line, definitions: Mapping[str, Line], counts: Mapping[str, int], layout: Layout
) -> _Access | None:
    call = _CALL.match(line.body) or _STATE.match(line.body)
    if call is None:
        return None

    def resolve(token: str) -> Pointer:
        name = unquote(token.removeprefix("%"))
        made = definitions.get(name)
        if token.startswith("%") and made is not None and made.op == "getelementptr":
            return gep(made.body, layout, resolve)
        return Pointer(token)

    pointer = resolve(call["pointer"])
    terms = [term for term in pointer.terms if term[0]]
    count = counts.get(pointer.base, 0)
    if len(terms) != 1 or not 1 < count <= _MOST:
        return None
    step, index = terms[0]
    return _Access(call, pointer.base, pointer.offset, index, step, count)


def _expand(function: Function, label: str, at: int, access: _Access, number: int) -> str:
    """Cut the block at the access, and put one for each stream between the parts; the second part's label."""
    lines = function.blocks[label]
    line = parse_line(lines[at])
    place = f", !dbg !{line.attached['dbg']}" if "dbg" in line.attached else ""
    stem = f"hls.streams.{number}"
    after, gives = f"{stem}.done", access.call["gives"]
    # Of an index outside of the array, the last stream is as good as any.
    streams = [n for n in range(access.count) if 0 <= n + access.offset // access.step < access.count]
    heads = [label, *(f"{stem}.test.{n}" for n in streams[1:-1]), f"{stem}.{streams[-1]}"]
    blocks = {label: lines[:at]}
    for n, head, other in zip(streams[:-1], heads, heads[1:], strict=False):
        blocks.setdefault(head, [])
        blocks[head] += [
            f"%{stem}.is.{n} = icmp eq {access.index}, {n}{place}",
            f"br i1 %{stem}.is.{n}, label %{stem}.{n}, label %{other}{place}",
        ]
    for n in streams:
        called = f"call {gives} {access.call['name']}(ptr %{stem}.at.{n}{access.call['rest']}){place}"
        address = f"getelementptr i8, ptr {access.base}, i64 {access.offset + n * access.step}{place}"
        blocks[f"{stem}.{n}"] = [
            f"%{stem}.at.{n} = {address}",
            called if gives == "void" else f"%{stem}.value.{n} = {called}",
            f"br label %{after}{place}",
        ]
    values = ", ".join(f"[ %{stem}.value.{n}, %{stem}.{n} ]" for n in streams)
    joined = f"%{_quoted(line.result)} = phi {gives.split()[-1]} {values}{place}"
    blocks[after] = [*([] if gives == "void" else [joined]), *lines[at + 1 :]]
    _replace(function, label, blocks, after)
    return after


def _replace(function: Function, label: str, new: Mapping[str, list[str]], after: str) -> None:
    """Put several blocks in the place of one, whose end is that of ``after``."""
    blocks: dict[str, list[str]] = {}
    for name, body in function.blocks.items():
        blocks |= new if name == label else {name: body}
    function.blocks.clear()
    for name, body in blocks.items():
        own = name in new and name != label and name != after
        function.blocks[name] = body if own else [renamed_phi(text, label, after) for text in body]


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.$-]+", name) else f'"{name}"'
