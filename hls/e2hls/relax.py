# SPDX-License-Identifier: Apache-2.0
"""Arrays that the user declared independent: reads may overtake writes, but only inside the loop meant.

Where a loop ends, idle activations follow. Each pipeline stage holds one activation, so as many of them as
there are stages let all accesses of the loop finish before any access after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from e2hls.cuts import Cut, leaf_loops
from e2hls.ir import Array, Block, Branch, Process
from e2hls.regions import Flow, analyse, edges_of

__all__ = ["relax"]


def relax(process: Process, rams: frozenset[str], *, idle: int) -> Cut:
    """The process with ``idle`` activations after loops that read and write an independent array.

    Other arrays lose the mark: their accesses stay in order, which costs them nothing.
    """
    process = replace(process, blocks=tuple(part for block in process.blocks for part in _with_exit(block)))
    flow = analyse(process, merge=False)
    leaves = leaf_loops(flow, process)
    chosen = {
        array.name
        for array in process.arrays
        if array.independent and array.name in rams and _modified_in_loop(flow, leaves, array)
    }
    arrays = tuple(replace(array, independent=array.name in chosen) for array in process.arrays)
    cut = Cut(process=replace(process, arrays=arrays))
    users = {
        label for label in flow.order for op in ("load", "store") if _uses(flow.blocks[label], op, chosen)
    }
    for source, target in _exits(flow, leaves, users):
        cut = _idle(cut, source, target, idle)
    return cut


def _with_exit(block: Block) -> tuple[Block, ...]:
    """The block with its Return apart, so that there is an edge to put activations on."""
    if isinstance(block.end, Branch) or not any(i.op in ("load", "store") for i in block.instrs):
        return (block,)
    end = Block(label=f"{block.label}_return", phis=(), instrs=(), end=block.end)
    return (replace(block, end=Branch(then=end.label)), end)


def _uses(block: Block, op: str, arrays: Iterable[str]) -> bool:
    return any(instr.op == op and instr.target in arrays for instr in block.instrs)


def _modified_in_loop(flow: Flow, leaves: dict[str, str], array: Array) -> bool:
    """Whether one innermost loop both reads and writes the array."""
    loads = {leaves.get(label) for label in flow.order if _uses(flow.blocks[label], "load", (array.name,))}
    stores = {leaves.get(label) for label in flow.order if _uses(flow.blocks[label], "store", (array.name,))}
    return bool((loads & stores) - {None})


def _exits(flow: Flow, leaves: dict[str, str], users: set[str]) -> list[tuple[str, str]]:
    """The edges that leave the innermost loop, or else the block, of one of ``users``."""
    loops = {leaves[label] for label in users if label in leaves}
    inside = {label: loop for label, loop in leaves.items() if loop in loops}
    inside |= {label: label for label in users if label not in leaves}
    return [
        (label, edge.target)
        for label in flow.order
        if label in inside
        for edge in edges_of(flow.blocks[label])
        if inside.get(edge.target) != inside[label]
    ]


def _idle(cut: Cut, source: str, target: str, count: int) -> Cut:
    """Put ``count`` empty activations on the edge from ``source`` to ``target``."""
    names = [f"{source}_to_{target}_{index}" for index in range(count)]
    chain = [
        Block(label=name, phis=(), instrs=(), end=Branch(then=following))
        for name, following in zip(names, [*names[1:], target], strict=True)
    ]
    blocks = []
    for block in cut.process.blocks:
        if block.label == source and isinstance(block.end, Branch):
            then = names[0] if block.end.then == target else block.end.then
            other = names[0] if block.end.other == target else block.end.other
            block = replace(block, end=replace(block.end, then=then, other=other))
        if block.label == target:
            block = replace(
                block,
                phis=tuple(
                    replace(p, incoming={names[-1] if k == source else k: v for k, v in p.incoming.items()})
                    for p in block.phis
                ),
            )
        blocks.append(block)
    process = replace(cut.process, blocks=(*blocks, *chain))
    return replace(cut, process=process, steps=cut.steps | set(names), idle=True)
