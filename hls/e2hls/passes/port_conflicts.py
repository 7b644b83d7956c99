# SPDX-License-Identifier: Apache-2.0
"""Give code outside of pipelined loops the cycles that its ports need.

Where one activation would use a port twice, the second use starts an activation of its own. Not so inside
an innermost loop that is to run at one iteration per cycle: there it stays a conflict, for the user to solve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from e2hls.ir import Array, Block, Branch, Const, Instr, Operand, Process
from e2hls.passes.intervals import innermost
from e2hls.passes.regions import Flow, analyse

__all__ = ["cut_ports"]

# The end of a stream that an operation is for.
_STREAM_PORTS = {
    "stream_read": "stream_read",
    "stream_empty": "stream_read",
    "stream_write": "stream_write",
    "stream_full": "stream_write",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """One use of a port: the ``index``-th instruction of block ``label``."""

    op: str
    port: tuple[str, str]
    place: tuple[int | None, ...]  # bank; None where it varies
    address: tuple[Operand, ...]
    label: str
    index: int


def cut_ports(
    process: Process, rams: frozenset[str], *, merge: bool, single: bool = False, early: bool = False
) -> Process:
    """Cut a process until no activation uses a port twice, innermost loops excepted.

    With ``single``, reads and writes of a memory count as uses of one port: no access waits for another of
    the same memory. With ``early``, an activation ends behind the first use rather than before the second:
    what is computed between them has a cycle of its own.
    """
    while True:
        flow = analyse(process, merge=merge)
        found = _second_use(process, flow, rams, single=single)
        if found is None:
            return process
        first, second = found
        if early and first.label == second.label:
            second = replace(second, index=first.index + 1)
        process = _cut_before(process, second)


def _second_use(
    process: Process, flow: Flow, rams: frozenset[str], *, single: bool
) -> tuple[_Use, _Use] | None:
    """A use, and one that cannot share an activation with it and may be moved out of it."""
    leaves = _leaf_loops(flow, process)
    uses = list(_uses(process, flow, rams, single=single))
    for second in uses:
        for first in uses:
            if (
                first.port != second.port
                or not _same_memory(first, second)
                or not _follows(first, second, flow)
            ):
                continue
            leaf = leaves.get(second.label)
            if leaf is None or leaf != leaves.get(first.label):
                return first, second
    return None


def _uses(process: Process, flow: Flow, rams: frozenset[str], *, single: bool) -> Iterator[_Use]:
    arrays = {array.name: array for array in process.arrays}
    for label in flow.order:
        for index, instr in enumerate(flow.blocks[label].instrs):
            if instr.op in _STREAM_PORTS:
                port = _STREAM_PORTS[instr.op], instr.target
                yield _Use(op=instr.op, port=port, place=(), address=(), label=label, index=index)
            elif instr.op in ("load", "store") and instr.target in rams:
                kind = "access" if single else instr.op
                yield _memory_use(arrays[instr.target], instr, (kind, instr.target), label, index)


def _memory_use(array: Array, instr: Instr, port: tuple[str, str], label: str, index: int) -> _Use:
    address = instr.args[: len(array.dims)]
    place = tuple(
        arg.value if isinstance(arg, Const) else None
        for arg, split in zip(address, array.partitioned, strict=True)
        if split
    )
    return _Use(op=instr.op, port=port, place=place, address=address, label=label, index=index)


def _same_memory(one: _Use, other: _Use) -> bool:
    """Whether the first use keeps the second from happening at the same time."""
    if one.op in (
        "stream_empty",
        "stream_full",
    ):  # which say what is there before the activation's own access
        return False
    if any(a is not None and b is not None and a != b for a, b in zip(one.place, other.place, strict=True)):
        return False
    return (one.op, other.op) != ("load", "load") or one.address != other.address


def _follows(first: _Use, second: _Use, flow: Flow) -> bool:
    if first.label == second.label:
        return first.index < second.index
    return second.label in flow.reached[first.label]


def _leaf_loops(flow: Flow, process: Process) -> dict[str, str]:
    """The innermost loop's header, for each block in a loop that holds no other and is to run at II=1."""
    leaves: dict[str, str] = {}
    for header, body in innermost(process, flow).items():
        info = process.loops.get(header)
        if info is None or info.ii == 1:
            leaves |= dict.fromkeys(body, header)
    return leaves


def _cut_before(process: Process, use: _Use) -> Process:
    """Let the activation end before this use."""
    blocks = {block.label: block for block in process.blocks}
    block = blocks[use.label]
    accesses = ("load", "store", *_STREAM_PORTS)
    earlier = any(i.op in accesses for i in block.instrs[: use.index])
    if not earlier and use.label not in process.steps and use.label != process.blocks[0].label:
        return replace(process, steps=process.steps | {use.label})
    rest = f"{use.label}_{len(process.steps)}"
    while rest in blocks:
        rest += "_"
    head = replace(block, instrs=block.instrs[: use.index], end=Branch(then=rest))
    tail = Block(label=rest, phis=(), instrs=block.instrs[use.index :], end=block.end)
    renamed = [_from(other, use.label, rest) for other in process.blocks]
    at = next(index for index, other in enumerate(renamed) if other.label == use.label)
    head = replace(head, phis=renamed[at].phis)
    blocks_now = (*renamed[:at], head, tail, *renamed[at + 1 :])
    return replace(process, blocks=blocks_now, steps=process.steps | {rest})


def _from(block: Block, old: str, new: str) -> Block:
    """The block with what came from ``old`` coming from ``new``."""
    if not any(old in phi.incoming for phi in block.phis):
        return block
    phis = [
        replace(phi, incoming={new if label == old else label: v for label, v in phi.incoming.items()})
        for phi in block.phis
    ]
    return replace(block, phis=tuple(phis))
