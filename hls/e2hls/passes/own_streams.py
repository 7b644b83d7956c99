# SPDX-License-Identifier: Apache-2.0
"""A stream that one process both writes and reads gets a process of its own, which hands its words on.

So it has two ends like any other. The process writes all that it will read later before it reads it: the FIFO
must hold that much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from e2hls.base.errors import HlsError
from e2hls.ir import Block, Design, Instr, Process, Ref, Return, Stream

__all__ = ["own_streams"]

_WORDS = 1024  # that such a FIFO holds, unless it is to hold more


def own_streams(design: Design) -> Design:
    """Give each such stream a second one, from which the words are read.

    Raises: HlsError where a process asks whether such a stream is empty.
    """
    own = [
        stream
        for stream in design.streams
        if _users(design, "read", stream) & _users(design, "write", stream)
    ]
    if not own:
        return design
    names_of_own = {stream.name for stream in own}
    for process in design.processes:
        for instr in _instrs(process.blocks):
            if instr.op == "stream_empty" and instr.target in names_of_own:
                raise HlsError(
                    f"whether {instr.target} is empty depends on time, as one process writes and reads it; "
                    "count its words",
                    instr.loc,
                )
    names = {stream.name: f"{stream.name}_kept" for stream in own}
    notes = (
        f"{stream.loc}: the stream {stream.name} is written and read by one process: it holds "
        f"{max(_WORDS, stream.depth)} words, and the kernel waits for ever where there are more"
        for stream in own
    )
    kept = {stream.name: replace(stream, depth=max(_WORDS, stream.depth)) for stream in own}
    return replace(
        design,
        processes=(*(_reading(process, names) for process in design.processes), *map(_handing_on, own)),
        streams=(
            *(kept.get(stream.name, stream) for stream in design.streams),
            *(replace(each, name=names[each.name], depth=2, hands_on=each.name) for each in own),
        ),
        notes=(*design.notes, *notes),
    )


def _users(design: Design, end: str, stream: Stream) -> set[str]:
    return {
        process.name
        for process in design.processes
        if any(i.op == f"stream_{end}" and i.target == stream.name for i in _instrs(process.blocks))
    }


def _instrs(blocks: Iterable[Block]) -> Iterable[Instr]:
    return (instr for block in blocks for instr in block.instrs)


def _reading(process: Process, names: dict[str, str]) -> Process:
    def renamed(instr: Instr) -> Instr:
        reads = instr.op == "stream_read" and instr.target in names
        return replace(instr, target=names[instr.target]) if reads else instr

    blocks = (replace(block, instrs=tuple(map(renamed, block.instrs))) for block in process.blocks)
    return replace(process, blocks=tuple(blocks))


def _handing_on(stream: Stream) -> Process:
    word = Ref(stream.width, "word")
    instrs = (
        Instr(op="stream_read", width=stream.width, result="word", target=stream.name, loc=stream.loc),
        Instr(op="stream_write", width=0, args=(word,), target=f"{stream.name}_kept", loc=stream.loc),
    )
    block = Block(label="entry", phis=(), instrs=instrs, end=Return())
    return Process(name=f"{stream.name}_fifo", blocks=(block,), arrays=())
