# SPDX-License-Identifier: Apache-2.0
"""Blocks and the edges between them: order, dominators and loops, for LLVM IR and for the IR alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["FlowGraph", "Loop", "dominators"]


@dataclass(frozen=True, slots=True)
class Loop:
    """The blocks from which ``header`` is reached again; ``latches`` are those that jump back to it."""

    header: str
    blocks: frozenset[str]
    latches: tuple[str, ...]


class FlowGraph:
    """What is reached from ``entry``; ``successors`` lists each block's targets, each once."""

    def __init__(self, entry: str, successors: Mapping[str, Sequence[str]]) -> None:
        self.entry = entry
        self.successors = successors
        self.retreating: list[tuple[str, str]] = []  # edges back to a block that is still being visited
        self.order = self._search()

    def _search(self) -> tuple[str, ...]:
        """Reverse postorder of a depth-first search."""
        done: list[str] = []
        open_, seen = {self.entry}, {self.entry}
        stack: list[tuple[str, Iterator[str]]] = [(self.entry, iter(self.successors[self.entry]))]
        while stack:
            label, rest = stack[-1]
            target = next(rest, None)
            if target is None:
                done.append(label)
                open_.remove(label)
                stack.pop()
            elif target in open_:
                self.retreating.append((label, target))
            elif target not in seen:
                seen.add(target)
                open_.add(target)
                stack.append((target, iter(self.successors[target])))
        return tuple(reversed(done))

    @cached_property
    def predecessors(self) -> dict[str, list[str]]:
        """For each reachable block the reachable blocks that jump to it."""
        found: dict[str, list[str]] = {label: [] for label in self.order}
        for label in self.order:
            for target in self.successors[label]:
                found[target].append(label)
        return found

    @cached_property
    def dominators(self) -> dict[str, tuple[str, ...]]:
        """For each reachable block those that every way to it goes through, itself last."""
        return dominators(self.order, self.predecessors, (self.entry,))

    @cached_property
    def loops(self) -> list[Loop]:
        """The natural loops, outer ones first."""
        latches: dict[str, list[str]] = {}
        for label in self.order:
            for target in self.successors[label]:
                if target in self.dominators[label]:
                    latches.setdefault(target, []).append(label)
        loops = [Loop(header, self._body(header, ends), tuple(ends)) for header, ends in latches.items()]
        return sorted(loops, key=lambda loop: -len(loop.blocks))

    def _body(self, header: str, latches: list[str]) -> frozenset[str]:
        body, todo = {header}, list(latches)
        while todo:
            label = todo.pop()
            if label not in body:
                body.add(label)
                todo += self.predecessors[label]
        return frozenset(body)


def dominators(
    order: Sequence[str], predecessors: Mapping[str, Sequence[str]], roots: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """For each block those that every way from the roots to it goes through, itself last.

    ``order`` lists the blocks so that those which dominate a block come before it.
    """
    everything = frozenset(order)
    found = {label: everything for label in order} | {root: frozenset((root,)) for root in roots}
    changed = True
    while changed:
        changed = False
        for label in order:
            if label in roots:
                continue
            above = [found[each] for each in predecessors[label]]
            common = (frozenset.intersection(*above) if above else frozenset()) | {label}
            changed |= common != found[label]
            found[label] = common
    place = {label: at for at, label in enumerate(order)}
    return {label: tuple(sorted(each, key=place.__getitem__)) for label, each in found.items()}
