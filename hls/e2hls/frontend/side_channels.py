# SPDX-License-Identifier: Apache-2.0
"""Side channels of AXI beats: words carry those that the kernel uses, and no others.

An input's are used where one is read, an output's where it is written with anything but what its absence
means, and those between two processes where the second reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, takewhile

from e2hls.base.errors import HlsError
from e2hls.frontend.variables import Port
from e2hls.ir import SIDES, Block, Const, Instr, Operand, Ref

__all__ = ["carry_sides", "choose_sides"]

_ONES = ("keep", "strb")  # without the pin every byte is data; everything else is 0


def choose_sides(
    ports: Iterable[Port], outputs: Iterable[Port], processes: Sequence[tuple[Block, ...]]
) -> None:
    """Note in each port which of its side channels are used."""
    by_name = {port.name: port for port in ports}
    used: dict[str, set[str]] = {name: set() for name in by_name}
    for port in outputs:
        used[port.name] = {
            side
            for blocks in processes
            for write in _instrs(blocks, "stream_write", port.name)
            for side, value in zip(port.side_widths, write.args[1:], strict=True)
            if not _says_nothing(side, value)
        }
    before = -1
    while before != (before := sum(map(len, used.values()))):
        for blocks in processes:
            needed = _needed(blocks, by_name, used)
            for read in _instrs(blocks, "stream_side"):
                if read.result in needed:
                    used[read.target].add(read.predicate)
    for name, port in by_name.items():
        port.sides = tuple((side, port.side_widths[side]) for side in SIDES if side in used[name])


def _instrs(blocks: Iterable[Block], op: str, target: str = "") -> Iterator[Instr]:
    return (i for block in blocks for i in block.instrs if i.op == op and target in ("", i.target))


def _needed(blocks: Iterable[Block], ports: Mapping[str, Port], used: Mapping[str, set[str]]) -> set[str]:
    """The values of a process that something is made of."""
    operands: list[Operand | None] = []
    for block in blocks:
        operands += (value for phi in block.phis for value in phi.incoming.values())
        operands.append(getattr(block.end, "cond", None))
        for instr in block.instrs:
            if instr.op == "stream_write":
                sides = zip(ports[instr.target].side_widths, instr.args[1:], strict=True)
                operands += [instr.args[0], *(v for side, v in sides if side in used[instr.target])]
            else:
                operands += instr.args
    return {operand.name for operand in operands if isinstance(operand, Ref)}


def _says_nothing(side: str, value: Operand) -> bool:
    if not isinstance(value, Const):
        return False
    return value.undef or value.value == ((1 << value.width) - 1 if side in _ONES else 0)


def carry_sides(blocks: tuple[Block, ...], ports: Mapping[str, Port]) -> tuple[Block, ...]:
    """The blocks of a process with its beats as words that hold the side channels in use."""
    carrier = _Carrier(blocks, ports)
    return tuple(
        replace(block, instrs=tuple(new for instr in block.instrs for new in carrier.carried(instr)))
        for block in blocks
    )


class _Carrier:
    """Rewrites the stream accesses of one process."""

    def __init__(self, blocks: Iterable[Block], ports: Mapping[str, Port]) -> None:
        self._ports = ports
        self._beats: dict[str, Ref] = {}  # what was read without its side channels -> with them
        self._names = {phi.result for block in blocks for phi in block.phis}
        self._names |= {instr.result for block in blocks for instr in block.instrs}

    def carried(self, instr: Instr) -> Iterator[Instr]:
        """What takes the place of an instruction.

        Raises: HlsError for a side channel that is not used with the word it came with.
        """
        port = self._ports.get(instr.target) if instr.op.startswith("stream_") else None
        if port is None or not port.side_widths:
            yield instr
        elif instr.op == "stream_read" and port.sides:
            width = port.stream().width
            beat = self._beats[instr.result] = self._fresh(width, f"{instr.result}_beat")
            yield replace(instr, width=width, result=beat.name)
            yield replace(instr, op="trunc", args=(beat,), target="")
        elif instr.op == "stream_side":
            if instr.predicate in dict(port.sides):
                yield from self._side(instr, port)
        elif instr.op == "stream_write":
            yield from self._write(instr, port)
        else:
            yield instr

    def _side(self, instr: Instr, port: Port) -> Iterator[Instr]:
        (word,) = instr.args
        beat = self._beats.get(word.name) if isinstance(word, Ref) else None
        if beat is None:
            raise HlsError(
                f"t{instr.predicate} of {port.name} is used apart from the read of its word; "
                "copy what is needed of the word where it is read",
                instr.loc,
            )
        up = self._fresh(beat.width, f"{instr.result}_up")
        amount = Const(beat.width, _offset(port, instr.predicate))
        yield Instr(op="lshr", width=up.width, result=up.name, args=(beat, amount), loc=instr.loc)
        yield Instr(op="trunc", width=instr.width, result=instr.result, args=(up,), loc=instr.loc)

    def _write(self, instr: Instr, port: Port) -> Iterator[Instr]:
        width = port.stream().width
        values = dict(zip(port.side_widths, instr.args[1:], strict=True))
        word = instr.args[0]
        if port.sides:
            beat = self._fresh(width, f"{port.name}_beat")
            yield Instr(op="zext", width=width, result=beat.name, args=(word,), loc=instr.loc)
            word = beat
        for side, _ in port.sides:
            wide, up, both = (self._fresh(width, f"{port.name}_{side}") for _ in range(3))
            amount = Const(width, _offset(port, side))
            yield Instr(op="zext", width=width, result=wide.name, args=(values[side],), loc=instr.loc)
            yield Instr(op="shl", width=width, result=up.name, args=(wide, amount), loc=instr.loc)
            yield Instr(op="or", width=width, result=both.name, args=(word, up), loc=instr.loc)
            word = both
        yield replace(instr, args=(word,))

    def _fresh(self, width: int, stem: str) -> Ref:
        name = next(name for i in count() if (name := f"{stem}_{i}" if i else stem) not in self._names)
        self._names.add(name)
        return Ref(width, name)


def _offset(port: Port, side: str) -> int:
    """Where a side channel starts in a word."""
    before = takewhile(lambda each: each[0] != side, port.sides)
    return port.width + sum(width for _, width in before)
