# SPDX-License-Identifier: Apache-2.0
"""Turns a load through an address that was chosen by where it comes from into loads before the choice.

``if (c) v = a[i][j]; else v = a[j][i];`` makes LLVM choose the address first and load once, where the two
branches meet.
"""

from __future__ import annotations

import re

from e2hls.frontend.llvm_text import Function, parse_line, unquote

__all__ = ["load_before_phis"]

_NAME = r'(?:"[^"]*"|[\w.$-]+)'
_PHI = re.compile(r"^phi ptr (?P<pairs>.*)$")
_PAIR = re.compile(rf"\[ (?P<value>\S+), %(?P<block>{_NAME}) \]")
_LOAD = re.compile(rf"^load (?P<type>i\d+), ptr (?P<pointer>%{_NAME})(?:, align \d+)?$")
_MAY_WRITE = ("store", "call")


def load_before_phis(function: Function) -> None:
    """Rewrite such loads where nothing is written between the choice and the load."""
    for label in list(function.blocks):
        while _move_first(function, label):
            pass


def _move_first(function: Function, label: str) -> bool:
    """Move the first such load of a block; tell whether there was one."""
    lines = function.blocks[label]
    phis = {text.partition(" = ")[0]: text for text in lines if _PHI.match(parse_line(text).body)}
    for text in lines:
        line = parse_line(text)
        if line.op in _MAY_WRITE:
            return False
        load = _LOAD.match(line.body)
        if load is None or load["pointer"] not in phis:
            continue
        phi, name = phis[load["pointer"]], text.partition(" = ")[0]
        place = f", !dbg !{line.attached['dbg']}" if "dbg" in line.attached else ""
        pairs = {pair["block"]: pair["value"] for pair in _PAIR.finditer(phi)}
        stem = f"{load['pointer'][1:]}.{name[1:]}".replace('"', "")
        values = []
        for number, (block, pointer) in enumerate(pairs.items()):
            value = f'%"{stem}.from.{number}"'
            before = function.blocks[unquote(block)]
            before.insert(len(before) - 1, f"{value} = load {load['type']}, ptr {pointer}{place}")
            values.append(f"[ {value}, %{block} ]")
        lines = function.blocks[label]  # a block may come before itself
        lines[lines.index(text)] = f'{name} = freeze {load["type"]} %"{stem}"{place}'
        lines.insert(lines.index(phi), f'%"{stem}" = phi {load["type"]} {", ".join(values)}{place}')
        used = re.compile(rf"{re.escape(load['pointer'])}(?![\w.$-])")
        if not any(used.search(other) for other in function.lines() if other != phi):
            # One without a name leaves its number to something, as LLVM counts them.
            unnamed = load["pointer"][1:].isdigit()
            nothing = ", ".join(f"[ false, %{block} ]" for block in pairs)
            at = lines.index(phi)
            lines[at : at + 1] = [f"{load['pointer']} = phi i1 {nothing}"] if unnamed else []
        return True
    return False
