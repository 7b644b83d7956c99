# SPDX-License-Identifier: Apache-2.0
"""Side channels of AXI beats: words carry those that the kernel uses, and no others.

An input's are used where one is read, an output's where it is written with anything but what its absence
means, and those between two processes where the second reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import count, takewhile

from e2hls.base.errors import HlsError
from e2hls.ir import SIDES, Block, Const, Design, Instr, Operand, Ref, Stream

__all__ = ["side_channels"]

_ONES = ("keep", "strb")  # without the pin every byte is data; everything else is 0
_Streams = Mapping[str, Stream]


def side_channels(design: Design) -> Design:
    """Join each word with those of its side channels that are used; the others are left out.

    Raises: HlsError for a side channel that is not used with the word it came with.
    """
    groups = (design.inputs, design.outputs, design.streams)
    declared = {stream.name: stream for group in groups for stream in group}
    used = _used(design, declared)
    joined = {name: _with_sides(stream, used[name]) for name, stream in declared.items()}
    inputs, outputs, streams = (tuple(joined[stream.name] for stream in group) for group in groups)
    processes = tuple(
        replace(process, blocks=_carried(process.blocks, declared, joined)) for process in design.processes
    )
    return replace(design, inputs=inputs, outputs=outputs, streams=streams, processes=processes)


def _with_sides(stream: Stream, used: set[str]) -> Stream:
    widths = dict(stream.sides)
    sides = tuple((side, widths[side]) for side in SIDES if side in used)
    return replace(stream, width=_word_bits(stream) + sum(width for _, width in sides), sides=sides)


def _word_bits(stream: Stream) -> int:
    """Bits of a word without side channels."""
    return stream.data_bits + stream.axis


def _used(design: Design, streams: _Streams) -> dict[str, set[str]]:
    """By stream, its side channels that are used."""
    used: dict[str, set[str]] = {name: set() for name in streams}
    processes = [process.blocks for process in design.processes]
    for stream in design.outputs:
        used[stream.name] = {
            side
            for blocks in processes
            for write in _instrs(blocks, "stream_write", stream.name)
            for (side, _), value in zip(stream.sides, write.args[1:], strict=True)
            if not _says_nothing(side, value)
        }
    before = -1
    while before != (before := sum(map(len, used.values()))):
        for blocks in processes:
            needed = _needed(blocks, streams, used)
            for read in _instrs(blocks, "stream_side"):
                if read.result in needed:
                    used[read.target].add(read.predicate)
    return used


def _instrs(blocks: Iterable[Block], op: str, target: str = "") -> Iterator[Instr]:
    return (i for block in blocks for i in block.instrs if i.op == op and target in ("", i.target))


def _needed(blocks: Iterable[Block], streams: _Streams, used: Mapping[str, set[str]]) -> set[str]:
    """The values of a process that something is made of."""
    operands: list[Operand | None] = []
    for block in blocks:
        operands += (value for phi in block.phis for value in phi.incoming.values())
        operands.append(getattr(block.end, "cond", None))
        for instr in block.instrs:
            if instr.op == "stream_write":
                sides = zip(streams[instr.target].sides, instr.args[1:], strict=True)
                operands += [instr.args[0], *(v for (side, _), v in sides if side in used[instr.target])]
            else:
                operands += instr.args
    return {operand.name for operand in operands if isinstance(operand, Ref)}


def _says_nothing(side: str, value: Operand) -> bool:
    if not isinstance(value, Const):
        return False
    return value.undef or value.value == ((1 << value.width) - 1 if side in _ONES else 0)


def _carried(blocks: tuple[Block, ...], declared: _Streams, joined: _Streams) -> tuple[Block, ...]:
    """The blocks of a process with its beats as words that hold the side channels in use."""
    carrier = _Carrier(blocks, declared, joined)
    return tuple(
        replace(block, instrs=tuple(new for instr in block.instrs for new in carrier.carried(instr)))
        for block in blocks
    )


class _Carrier:
    """Rewrites the stream accesses of one process."""

    def __init__(self, blocks: Iterable[Block], declared: _Streams, joined: _Streams) -> None:
        self._declared = declared
        self._joined = joined
        self._beats: dict[str, Ref] = {}  # what was read without its side channels -> with them
        self._names = {phi.result for block in blocks for phi in block.phis}
        self._names |= {instr.result for block in blocks for instr in block.instrs}

    def carried(self, instr: Instr) -> Iterator[Instr]:
        """What takes the place of an instruction."""
        declared = self._declared.get(instr.target) if instr.op.startswith("stream_") else None
        if declared is None or not declared.sides:
            yield instr
            return
        stream = self._joined[instr.target]
        if instr.op == "stream_read" and stream.sides:
            beat = self._beats[instr.result] = self._fresh(stream.width, f"{instr.result}_beat")
            yield replace(instr, width=stream.width, result=beat.name)
            yield replace(instr, op="trunc", args=(beat,), target="")
        elif instr.op == "stream_side":
            if instr.predicate in dict(stream.sides):
                yield from self._side(instr, stream)
        elif instr.op == "stream_write":
            yield from self._write(
                instr, stream, dict(zip(dict(declared.sides), instr.args[1:], strict=True))
            )
        else:
            yield instr

    def _side(self, instr: Instr, stream: Stream) -> Iterator[Instr]:
        (word,) = instr.args
        beat = self._beats.get(word.name) if isinstance(word, Ref) else None
        if beat is None:
            raise HlsError(
                f"t{instr.predicate} of {stream.name} is used apart from the read of its word; "
                "copy what is needed of the word where it is read",
                instr.loc,
            )
        up = self._fresh(beat.width, f"{instr.result}_up")
        amount = Const(beat.width, _offset(stream, instr.predicate))
        yield Instr(op="lshr", width=up.width, result=up.name, args=(beat, amount), loc=instr.loc)
        yield Instr(op="trunc", width=instr.width, result=instr.result, args=(up,), loc=instr.loc)

    def _write(self, instr: Instr, stream: Stream, values: Mapping[str, Operand]) -> Iterator[Instr]:
        width = stream.width
        word = instr.args[0]
        if stream.sides:
            beat = self._fresh(width, f"{stream.name}_beat")
            yield Instr(op="zext", width=width, result=beat.name, args=(word,), loc=instr.loc)
            word = beat
        for side, _ in stream.sides:
            wide, up, both = (self._fresh(width, f"{stream.name}_{side}") for _ in range(3))
            amount = Const(width, _offset(stream, side))
            yield Instr(op="zext", width=width, result=wide.name, args=(values[side],), loc=instr.loc)
            yield Instr(op="shl", width=width, result=up.name, args=(wide, amount), loc=instr.loc)
            yield Instr(op="or", width=width, result=both.name, args=(word, up), loc=instr.loc)
            word = both
        yield replace(instr, args=(word,))

    def _fresh(self, width: int, stem: str) -> Ref:
        name = next(name for i in count() if (name := f"{stem}_{i}" if i else stem) not in self._names)
        self._names.add(name)
        return Ref(width, name)


def _offset(stream: Stream, side: str) -> int:
    """Where a side channel starts in a word."""
    before = takewhile(lambda each: each[0] != side, stream.sides)
    return _word_bits(stream) + sum(width for _, width in before)
