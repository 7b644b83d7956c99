# SPDX-License-Identifier: Apache-2.0
"""What numbers run through, where it is known: counters of loops, what is made of them, masked numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from e2hls.frontend.hidden_indices import HIDDEN
from e2hls.frontend.llvm_text import Function, parse_line, unquote

__all__ = ["Walk", "find_walks"]

_NAME = r'(?:"[^"]*"|[\w.$-]+)'
_PHI = re.compile(r"^phi i\d+ (?P<pairs>\[.*\])$")
_PAIR = re.compile(rf"\[ (?P<value>\S+), %(?P<block>{_NAME}) \]")
_ADD = re.compile(rf"^(?:add|or disjoint) (?:(?:nuw|nsw) )*i\d+ (?P<of>%{_NAME}), (?P<step>-?\d+)$")
_TEST = re.compile(
    rf"^icmp (?:samesign )?(?P<how>eq|ne|ult|slt|ugt|sgt) i\d+ (?P<of>%{_NAME}), (?P<limit>-?\d+)$"
)
# What keeps a number as it is, and what is made of it; sums that may overflow are left out.
_SAME = re.compile(
    rf"^(?P<op>zext|sext|freeze|(?:tail )?call (?:\w+ )*i\d+ {re.escape(HIDDEN)}i\d+\()(?: nneg)? ?"
    rf"i(?P<bits>\d+) (?:\w+ )*(?P<of>%{_NAME})(?: to i\d+|\))?$"
)
_MASK = re.compile(rf"^(?P<op>and|urem) i\d+ %{_NAME}, (?P<by>\d+)$")
_MOVED = re.compile(rf"^(?:add (?:nuw )?nsw|or disjoint) i\d+ (?P<of>%{_NAME}), (?P<by>-?\d+)$")
_TURNED = re.compile(rf"^sub (?:nuw )?nsw i\d+ (?P<start>-?\d+), (?P<of>%{_NAME})$")
_BRANCH = re.compile(rf"^br i1 (?P<test>%{_NAME}), label %(?P<then>{_NAME}), label %(?P<other>{_NAME})$")


_OPPOSITE = {"eq": "ne", "ne": "eq"}
_FEW_BITS = 16


@dataclass(frozen=True, slots=True)
class Walk:
    """From ``first`` to ``last`` at most, by ``step``."""

    first: int
    last: int
    step: int


def find_walks(function: Function) -> Mapping[str, Walk]:
    """What values are known to run through, by name."""
    lines = {text.partition(" = ")[0]: parse_line(text).body for text in function.lines()}
    found: dict[str, Walk] = {}
    for header, block in function.blocks.items():
        for text in block:
            phi = _PHI.match(parse_line(text).body)
            if phi is None:
                continue
            name = text.partition(" = ")[0]
            walk = _walk(name, header, dict(_pairs(phi["pairs"])), function, lines)
            if walk is not None:
                found[name] = walk
    for name, body in lines.items():  # in the order of the blocks: what they are made of comes before them
        walk = _made_of(body, found)
        if walk is not None:
            found[name] = walk
    return found


def _made_of(body: str, known: Mapping[str, Walk]) -> Walk | None:
    """What a value that is made of another one runs through."""
    if same := _SAME.match(body):
        of, bits = known.get(same["of"]), int(same["bits"])
        if of is not None and min(of.first, of.last) >= 0:
            return of
        return Walk(0, (1 << bits) - 1, 1) if same["op"] == "zext" and bits <= _FEW_BITS else None
    if masked := _MASK.match(body):
        most = int(masked["by"]) - (masked["op"] == "urem")
        return Walk(0, most, 1) if most >= 0 else None
    if moved := _MOVED.match(body):
        of, by = known.get(moved["of"]), int(moved["by"])
        return of and Walk(of.first + by, of.last + by, of.step)
    if turned := _TURNED.match(body):
        of, start = known.get(turned["of"]), int(turned["start"])
        return of and Walk(start - of.first, start - of.last, -of.step)
    return None


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(unquote(pair["block"]), pair["value"]) for pair in _PAIR.finditer(text)]


def _walk(
    name: str, header: str, incoming: dict[str, str], function: Function, lines: Mapping[str, str]
) -> Walk | None:
    starts = {value for value in incoming.values() if not value.startswith("%")}
    backs = [(block, value) for block, value in incoming.items() if value.startswith("%")]
    if len(starts) != 1 or len(backs) != 1:
        return None
    (start,), ((latch, next_name),) = starts, backs
    add, branch = (
        _ADD.match(lines.get(next_name, "")),
        _BRANCH.match(parse_line(function.blocks[latch][-1]).body),
    )
    if add is None or add["of"] != name or branch is None or not re.fullmatch(r"-?\d+", start):
        return None
    test = _TEST.match(lines.get(branch["test"], ""))
    back = unquote(branch["then"]) == header  # where the test holds
    if (
        test is None
        or test["of"] not in (name, next_name)
        or (not back and unquote(branch["other"]) != header)
    ):
        return None
    how = test["how"] if back else _OPPOSITE.get(test["how"], "")
    return _reach(int(start), int(add["step"]), how, int(test["limit"]), of_next=test["of"] == next_name)


def _reach(first: int, step: int, how: str, limit: int, *, of_next: bool) -> Walk | None:
    """The walk of a counter that goes on while it, or its next value, is below, at or not at a limit.

    >>> _reach(0, 4, "ne", 16, of_next=True), _reach(0, 4, "ult", 15, of_next=False)
    (Walk(first=0, last=12, step=4), Walk(first=0, last=16, step=4))
    """
    if how == "eq":  # once at most, as it moves
        tested = first + step if of_next else first
        return Walk(first, first + step if tested == limit else first, step) if step else None
    if how in ("ugt", "sgt"):
        if step >= 0 or first < 0 or limit < (0 if how == "ugt" else -1):
            return None
        goes_on = first + (first - limit - 1) // -step * step  # the least value that does
        return Walk(first, min(first, goes_on if of_next else goes_on + step), step)
    if how not in ("ne", "ult", "slt"):
        return None
    if how in ("ult", "slt"):
        if step <= 0 or first < 0 or limit < 0:
            return None
        goes_on = first + (limit - 1 - first) // step * step  # the greatest value that does
        return Walk(first, max(first, goes_on if of_next else goes_on + step), step)
    last = limit - step if of_next else limit
    if step == 0 or (last - first) % step or (last - first) // step < 0:
        return None
    return Walk(first, last, step)
