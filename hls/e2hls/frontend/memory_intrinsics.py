# SPDX-License-Identifier: Apache-2.0
"""Turns the setting and copying of whole arrays into loops over their elements."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from e2hls.frontend.llvm_text import Function, unquote

__all__ = ["Shape", "expand_fills", "renamed_phi"]

Shape = tuple[tuple[int, ...], int]  # dimensions, bytes of one element

_POINTER = r'ptr (?:[a-z]+ )*(?:align \d+ )?(?:[a-z]+\(\d+\) )*(?P<{}>[%@](?:"[^"]*"|[\w.$-]+))'
_FILL = re.compile(
    r"^call void @llvm\.memset\.\S+\("
    + _POINTER.format("to")
    + r", i8 (?P<value>-?\d+), i64 (?P<size>\d+), i1 false\)"
)
_COPY = re.compile(
    r"^call void @llvm\.memcpy\.\S+\("
    + _POINTER.format("to")
    + ", "
    + _POINTER.format("source")
    + r", i64 (?P<size>\d+), i1 false\)"
)


def expand_fills(function: Function, shape_of: Callable[[str], Shape | None]) -> bool:
    """Rewrite what covers an array as a whole; tell whether there was any."""
    changed = False
    for label in list(function.blocks):
        while _expand_first(function, label, shape_of):
            changed = True
            label = f"{label}.filled"
    return changed


def _expand_first(function: Function, label: str, shape_of: Callable[[str], Shape | None]) -> bool:
    for at, text in enumerate(function.blocks[label]):
        found = _FILL.match(text) or _COPY.match(text)
        shape = shape_of(found["to"]) if found else None
        if found is None or shape is None or math.prod(shape[0]) * shape[1] != int(found["size"]):
            continue
        place = re.search(r", !dbg !\d+", text)
        _expand(function, label, at, found, shape, place[0] if place else "")
        return True
    return False


def _expand(function: Function, label: str, at: int, found: re.Match[str], shape: Shape, place: str) -> None:
    """Cut the block at the access and put a nest of loops between the parts."""
    dims, element = shape
    lines, after = function.blocks[label], f"{label}.filled"
    nest = [f"{label}.fill.{depth}" for depth in range(len(dims))]
    blocks: dict[str, list[str]] = {}
    for name, body in function.blocks.items():
        if name != label:
            blocks[name] = [renamed_phi(text, label, after) for text in body]
            continue
        blocks[name] = [*lines[:at], f'br label %"{nest[0]}"{place}']
        for depth, header in enumerate(nest):
            outer = nest[depth - 1] if depth else label
            own = f'"{header}.end"' if depth + 1 < len(nest) else f'"{header}"'
            start = f'%"{header}.i" = phi i64 [ 0, %"{outer}" ], [ %"{header}.next", %{own} ]'
            inner = [f'br label %"{nest[depth + 1]}"{place}'] if depth + 1 < len(nest) else []
            blocks[header] = [start, *inner]
        blocks[nest[-1]] += _element(found, nest, dims, element, place)
        for depth in reversed(range(len(nest))):
            header = nest[depth]
            leave = f"{nest[depth - 1]}.end" if depth else after
            end = [
                f'%"{header}.next" = add i64 %"{header}.i", 1{place}',
                f'%"{header}.more" = icmp ult i64 %"{header}.next", {dims[depth]}{place}',
                f'br i1 %"{header}.more", label %"{header}", label %"{leave}"{place}',
            ]
            if depth + 1 < len(nest):
                blocks[f"{header}.end"] = end
            else:
                blocks[header] += end
        blocks[after] = [renamed_phi(text, label, after) for text in lines[at + 1 :]]
    # The block itself may be its own successor.
    blocks[label] = [renamed_phi(text, label, after) for text in blocks[label]]
    function.blocks.clear()
    function.blocks.update(blocks)


def _element(
    found: re.Match[str], nest: list[str], dims: tuple[int, ...], element: int, place: str
) -> list[str]:
    kind, array = f"i{8 * element}", f"i{8 * element}"
    for dim in reversed(dims):
        array = f"[{dim} x {array}]"
    indices = "".join(f', i64 %"{header}.i"' for header in nest)
    at = f'%"{nest[-1]}.to" = getelementptr {array}, ptr {found["to"]}, i64 0{indices}'
    if "source" not in found.groupdict():
        byte = int(found["value"]) % 256
        value = str(int.from_bytes(bytes([byte]) * element, "little"))
        return [at, f'store {kind} {value}, ptr %"{nest[-1]}.to"{place}']
    return [
        at,
        f'%"{nest[-1]}.from" = getelementptr {array}, ptr {found["source"]}, i64 0{indices}',
        f'%"{nest[-1]}.value" = load {kind}, ptr %"{nest[-1]}.from"{place}',
        f'store {kind} %"{nest[-1]}.value", ptr %"{nest[-1]}.to"{place}',
    ]


def renamed_phi(text: str, label: str, after: str) -> str:
    """A line in which what comes from block ``label``, if it is a phi, comes from ``after``."""
    if " = phi " not in text:
        return text
    return re.sub(
        r'%("[^"]*"|[\w.$-]+) \]',
        lambda found: f'%"{after}" ]' if unquote(found[1]) == label else found[0],
        text,
    )
