# SPDX-License-Identifier: Apache-2.0
"""Blocks, edges and natural loops of a function in LLVM IR text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from e2hls.frontend.llvm_text import Function, unquote

__all__ = ["Loop", "dominators", "find_loops", "predecessors", "reachable", "successors"]

_TARGET = re.compile(r'label %("[^"]*"|[\w.$-]+)')


@dataclass(frozen=True, slots=True)
class Loop:
    """The blocks from which ``header`` is reached again; ``latches`` are those that jump back to it."""

    header: str
    blocks: frozenset[str]
    latches: tuple[str, ...]


def successors(lines: list[str]) -> tuple[str, ...]:
    """Where a block's last instruction may go, each block once."""
    return tuple(dict.fromkeys(unquote(label) for label in _TARGET.findall(lines[-1]))) if lines else ()


def predecessors(function: Function) -> dict[str, list[str]]:
    """For each block the reachable blocks that jump to it."""
    found: dict[str, list[str]] = {label: [] for label in function.blocks}
    for label in reachable(function):
        for target in successors(function.blocks[label]):
            found[target].append(label)
    return found


def find_loops(function: Function) -> list[Loop]:
    """The natural loops, outer ones first."""
    preds = predecessors(function)
    order = reachable(function)
    dominated_by = _dominators(order, preds)
    latches: dict[str, list[str]] = {}
    for label in order:
        for target in successors(function.blocks[label]):
            if target in dominated_by[label]:
                latches.setdefault(target, []).append(label)
    loops = [Loop(header, _body(header, ends, preds), tuple(ends)) for header, ends in latches.items()]
    return sorted(loops, key=lambda loop: -len(loop.blocks))


def reachable(function: Function) -> list[str]:
    """Reverse postorder from the entry."""
    entry = next(iter(function.blocks))
    done: list[str] = []
    seen = {entry}
    stack: list[tuple[str, Iterator[str]]] = [(entry, iter(successors(function.blocks[entry])))]
    while stack:
        label, rest = stack[-1]
        target = next(rest, None)
        if target is None:
            done.append(label)
            stack.pop()
        elif target not in seen:
            seen.add(target)
            stack.append((target, iter(successors(function.blocks[target]))))
    return done[::-1]


def dominators(function: Function) -> dict[str, frozenset[str]]:
    """For each reachable block the blocks that every way to it goes through, itself included."""
    return _dominators(reachable(function), predecessors(function))


def _dominators(order: list[str], preds: Mapping[str, list[str]]) -> dict[str, frozenset[str]]:
    everything = frozenset(order)
    found = {label: everything for label in order}
    found[order[0]] = frozenset(order[:1])
    changed = True
    while changed:
        changed = False
        for label in order[1:]:
            common = frozenset.intersection(*(found[pred] for pred in preds[label])) | {label}
            changed |= common != found[label]
            found[label] = common
    return found


def _body(header: str, latches: list[str], preds: Mapping[str, list[str]]) -> frozenset[str]:
    body, todo = {header}, list(latches)
    while todo:
        label = todo.pop()
        if label not in body:
            body.add(label)
            todo += preds[label]
    return frozenset(body)
