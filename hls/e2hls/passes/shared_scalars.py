# SPDX-License-Identifier: Apache-2.0
"""A scalar that one process writes and others read is sent to each of these by a stream.

The writer sends it once it has written it, or where it may do so again, or not at all, what it has at its
end. A reader takes it at its start and keeps it for as long as it runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from e2hls.base.errors import HlsError
from e2hls.ir import Array, Block, Branch, Const, Design, Instr, Operand, Process, Ref, Return, Stream
from e2hls.ir.flow_graph import FlowGraph

__all__ = ["shared_scalars", "writes_always"]


def writes_always(process: Process, array: str) -> bool:
    """Whether every way through a process stores into an array."""
    flow, stores = _flow(process), _stores(process, array)
    ways = {label: () if label in stores else targets for label, targets in flow.successors.items()}
    reached = FlowGraph(flow.entry, ways).order
    ends = [block.label for block in process.blocks if isinstance(block.end, Return)]
    return all(label in stores or label not in reached for label in ends)


def shared_scalars(design: Design) -> Design:
    """Turn shared arrays of one element, of one writer each, into streams.

    Raises: HlsError where a process that is called before the writer reads one.
    """
    taken = {each.name for each in (*design.inputs, *design.outputs, *design.streams)}
    taken |= {array.name for array in design.shared}
    taken |= {array.name for process in design.processes for array in process.arrays}
    handed = [each for array in design.shared if (each := _handed(design, array, taken)) is not None]
    processes = design.processes
    for each in handed:
        processes = tuple(_with_streams(process, each) for process in processes)
    names = {each.array.name for each in handed}
    return replace(
        design,
        processes=processes,
        streams=(*design.streams, *(stream for each in handed for stream in each.streams.values())),
        shared=tuple(array for array in design.shared if array.name not in names),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handed:
    """A scalar, and how it gets from the process that writes it to those that read it."""

    array: Array
    writer: str
    streams: dict[str, Stream]  # by reader


def _handed(design: Design, array: Array, taken: set[str]) -> _Handed | None:
    """How an array is handed over; None for one of several elements, or without one writer and readers."""
    order = [process.name for process in design.processes]
    writers = [each.name for each in design.processes if _uses(each.blocks, "store", array)]
    readers = [each.name for each in design.processes if _uses(each.blocks, "load", array)]
    readers = [name for name in readers if name not in writers]
    if math.prod(array.dims) != 1 or len(writers) != 1 or not readers:
        return None
    early = [name for name in readers if order.index(name) < order.index(writers[0])]
    if early:
        raise HlsError(
            f"{early[0]} reads {array.name} and is called before {writers[0]}, which writes it; call it "
            "after",
            array.loc,
        )
    streams = {
        name: Stream(
            name=_unique(f"{array.name}_for_{name}", taken),
            width=array.width,
            loc=array.loc,
            scalar=array.name,
        )
        for name in readers
    }
    return _Handed(array=array, writer=writers[0], streams=streams)


def _uses(blocks: Iterable[Block], op: str, array: Array) -> bool:
    return any(i.op == op and i.target == array.name for block in blocks for i in block.instrs)


def _with_streams(process: Process, handed: _Handed) -> Process:
    """The process with a scalar of its own in the place of the shared one."""
    if process.name == handed.writer:
        return _writing(process, handed)
    stream = handed.streams.get(process.name)
    return process if stream is None else _reading(process, handed.array, stream)


def _unique(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _writing(process: Process, handed: _Handed) -> Process:
    array = handed.array
    once = _written_once(process, array.name)
    own = replace(array, scope="local" if once else "static")  # as a static variable keeps what it had

    def sent(value: Operand) -> Iterator[Instr]:
        for stream in handed.streams.values():
            yield Instr(op="stream_write", width=0, args=(value,), target=stream.name, loc=array.loc)

    def changed(block: Block) -> Block:
        instrs = list(block.instrs)
        if block.label == once:
            at = next(i for i, each in enumerate(instrs) if each.op == "store" and each.target == array.name)
            instrs[at + 1 : at + 1] = sent(instrs[at].args[-1])
        elif not once and isinstance(block.end, Return):
            last = Ref(array.width, f"{array.name}.{block.label}.last")
            instrs.append(
                Instr(op="load", width=last.width, result=last.name, args=_first(array), target=array.name)
            )
            instrs += sent(last)
        return replace(block, instrs=tuple(instrs))

    return replace(process, blocks=tuple(map(changed, process.blocks)), arrays=(*process.arrays, own))


def _written_once(process: Process, array: str) -> str:
    """The block of the only store into an array, where every way through the process runs it once."""
    stores = _stores(process, array)
    flow = _flow(process)
    looping = {label for loop in flow.loops for label in loop.blocks}
    if len(stores) != 1 or stores[0] in looping or not writes_always(process, array):
        return ""
    return stores[0]


def _stores(process: Process, array: str) -> list[str]:
    """The blocks of all stores into an array, one for each."""
    return [
        block.label for block in process.blocks for i in block.instrs if i.op == "store" and i.target == array
    ]


def _flow(process: Process) -> FlowGraph:
    def targets(block: Block) -> tuple[str, ...]:
        if not isinstance(block.end, Branch):
            return ()
        return tuple(filter(None, dict.fromkeys((block.end.then, block.end.other))))

    return FlowGraph(process.blocks[0].label, {block.label: targets(block) for block in process.blocks})


def _reading(process: Process, array: Array, stream: Stream) -> Process:
    own = replace(array, name=f"{stream.name}_kept", scope="local", init=())

    def renamed(block: Block) -> Block:
        instrs = (replace(i, target=own.name) if i.target == array.name else i for i in block.instrs)
        return replace(block, instrs=tuple(instrs))

    taken = Ref(array.width, f"{array.name}.taken")
    first, *others = map(renamed, process.blocks)
    begin = (
        Instr(op="stream_read", width=array.width, result=taken.name, target=stream.name, loc=array.loc),
        Instr(op="store", width=0, args=(*_first(array), taken), target=own.name),
    )
    first = replace(first, instrs=(*begin, *first.instrs))
    return replace(process, blocks=(first, *others), arrays=(*process.arrays, own))


def _first(array: Array) -> tuple[Const, ...]:
    """The indices of the only element."""
    return tuple(Const(1, 0) for _ in array.dims)
