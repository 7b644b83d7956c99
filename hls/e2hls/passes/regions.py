# SPDX-License-Identifier: Apache-2.0
"""Cut a process into regions: one activation of the hardware runs from one loop header to the next.

Headers are the entry and enough targets of back edges to break every cycle. The edges that do not lead to
a header form an acyclic graph over all blocks; a block belongs to the region of each header that reaches it
there. A nest whose inner loop always runs needs the inner header only: its outer loops cost no cycles.
"""

from __future__ import annotations

from dataclasses import dataclass

from e2hls.ir import Block, Branch, Operand, Process
from e2hls.ir.flow_graph import FlowGraph, Loop, dominators

__all__ = ["Edge", "Flow", "analyse"]


@dataclass(frozen=True, slots=True)
class Edge:
    """One way out of block ``source``: taken where ``cond`` is ``polarity``, always where it is None."""

    source: str
    target: str
    cond: Operand | None = None
    polarity: bool = True


@dataclass(frozen=True, slots=True)
class Flow:
    """The control flow of a process. All orders follow execution."""

    blocks: dict[str, Block]
    headers: tuple[str, ...]  # the entry first
    order: tuple[str, ...]  # all reachable blocks, topologically
    into: dict[str, tuple[Edge, ...]]  # edges within activations
    turns: tuple[Edge, ...]  # edges into headers: they end an activation
    returns: tuple[str, ...]  # blocks that end with Return
    reached: dict[str, frozenset[str]]  # blocks that a block reaches in the same activation, itself included
    anchors: dict[str, str]  # block -> the first block of its activation that always runs with it
    dominators: dict[str, tuple[str, ...]]  # of each block within activations, itself last
    loops: tuple[Loop, ...]  # merged or not, outer ones first

    def regions_of(self, label: str) -> tuple[str, ...]:
        """Headers whose activations can run this block."""
        return tuple(header for header in self.headers if label in self.reached[header])

    def fork(self, join: str) -> str | None:
        """The last block that every way to ``join`` within an activation passes."""
        above = self.dominators[join][:-1]
        return above[-1] if above else None

    def exclusive(self, one: str, other: str) -> bool:
        """Whether no activation runs both blocks."""
        return one != other and other not in self.reached[one] and one not in self.reached[other]


def analyse(process: Process, *, merge: bool) -> Flow:
    """Find regions and orders of a process.

    ``merge`` makes as few regions as break all cycles; each of the process's steps starts one in any case.
    """
    blocks = {block.label: block for block in process.blocks}
    targets = {label: [edge.target for edge in edges_of(block)] for label, block in blocks.items()}
    graph = FlowGraph(process.blocks[0].label, targets)
    found = {graph.entry, *(header for _, header in graph.retreating), *process.steps}
    headers = tuple(label for label in blocks if label in found)
    for header in headers[1:] if merge else ():
        fewer = tuple(other for other in headers if other != header)
        if header not in process.steps and len(_topological(blocks, fewer, graph.order)) == len(graph.order):
            headers = fewer
    order = _topological(blocks, headers, graph.order)
    edges = [edge for label in order for edge in edges_of(blocks[label])]
    into: dict[str, list[Edge]] = {label: [] for label in order}
    for edge in edges:
        if edge.target not in headers:
            into[edge.target].append(edge)
    reached = _reached(blocks, order, set(headers))
    sources = {label: [edge.source for edge in into[label]] for label in order}
    above = dominators(order, sources, headers)
    return Flow(
        blocks=blocks,
        headers=headers,
        order=order,
        into={label: tuple(found) for label, found in into.items()},
        turns=tuple(edge for edge in edges if edge.target in headers),
        returns=tuple(label for label in order if not isinstance(blocks[label].end, Branch)),
        reached=reached,
        anchors=_anchors(blocks, headers, order, above),
        dominators=above,
        loops=tuple(graph.loops),
    )


def edges_of(block: Block) -> tuple[Edge, ...]:
    """The ways out of a block."""
    end = block.end
    if not isinstance(end, Branch):
        return ()
    if end.cond is None or end.then == end.other:
        return (Edge(block.label, end.then),)
    return (Edge(block.label, end.then, end.cond, True), Edge(block.label, end.other, end.cond, False))


def _topological(
    blocks: dict[str, Block], headers: tuple[str, ...], labels: tuple[str, ...]
) -> tuple[str, ...]:
    waiting = dict.fromkeys(labels, 0)
    for label in labels:
        for edge in edges_of(blocks[label]):
            if edge.target not in headers:
                waiting[edge.target] += 1
    ready = [label for label in blocks if waiting.get(label) == 0]
    order: list[str] = []
    while ready:
        label = ready.pop(0)
        order.append(label)
        for edge in edges_of(blocks[label]):
            if edge.target not in headers:
                waiting[edge.target] -= 1
                if waiting[edge.target] == 0:
                    ready.append(edge.target)
    return tuple(order)


def _reached(
    blocks: dict[str, Block], order: tuple[str, ...], headers: set[str]
) -> dict[str, frozenset[str]]:
    reached: dict[str, frozenset[str]] = {}
    for label in reversed(order):
        onward = [reached[edge.target] for edge in edges_of(blocks[label]) if edge.target not in headers]
        reached[label] = frozenset({label}).union(*onward)
    return reached


def _anchors(
    blocks: dict[str, Block],
    headers: tuple[str, ...],
    order: tuple[str, ...],
    above: dict[str, tuple[str, ...]],
) -> dict[str, str]:
    """For each block its earliest dominator that it post-dominates."""
    after: dict[str, set[str]] = {}
    for label in reversed(order):
        onward = [after[e.target] if e.target not in headers else set() for e in edges_of(blocks[label])]
        after[label] = {label} | (set.intersection(*onward) if onward else set())
    return {label: next(b for b in above[label] if label in after[b]) for label in order}
