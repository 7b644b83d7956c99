# SPDX-License-Identifier: Apache-2.0
"""Arrays between two processes become ping-pong memories with tokens.

The producer fills one half while the consumer reads the other. At its start the producer takes a `free`
token and the consumer a `full` one; at its end each gives the other kind and turns to the other half.
A producer that reads what it has written keeps a copy of its own for that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from e2hls.base.errors import HlsError
from e2hls.ir import Array, Block, Branch, Const, Design, Instr, Process, Ref, Stream

__all__ = ["ping_pong"]

_HALVES = 2  # both are free at reset


def ping_pong(design: Design) -> Design:
    """Give both processes of each shared array its two halves and the tokens.

    Raises: HlsError for an array that has not exactly one writing and one other, reading process.
    """
    design = replace(design, processes=tuple(_with_copies(each, design.shared) for each in design.processes))
    pairs = _pairs_of(design)
    processes = tuple(_with_tokens(process, pairs) for process in design.processes)
    tokens = (*(pair.full for pair in pairs), *(pair.free for pair in pairs))
    return replace(design, processes=processes, streams=(*design.streams, *tokens), shared=())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two processes and the arrays that one fills for the other."""

    producer: str
    consumer: str
    arrays: tuple[Array, ...]

    @property
    def full(self) -> Stream:
        return Stream(name=f"{self.producer}_{self.consumer}_full", width=1, guards=self._guarded)

    @property
    def free(self) -> Stream:
        return Stream(
            name=f"{self.producer}_{self.consumer}_free", width=1, initial=_HALVES, guards=self._guarded
        )

    @property
    def _guarded(self) -> tuple[str, ...]:
        return tuple(array.name for array in self.arrays)

    @property
    def half(self) -> str:
        """Name of the register that holds the half in use."""
        return f"{self.producer}_{self.consumer}_half"


def _with_copies(process: Process, shared: tuple[Array, ...]) -> Process:
    """The process with a local copy of each shared array that it both reads and writes."""
    copies = {
        array.name: replace(array, name=f"{array.name}_copy", scope="local")
        for array in shared
        if _accesses(process, "load", array) and _accesses(process, "store", array)
    }
    blocks = []
    for block in process.blocks:
        instrs: list[Instr] = []
        for instr in block.instrs:
            copy = copies.get(instr.target)
            if copy is None or instr.op == "store":
                instrs.append(instr)
            if copy is not None:
                instrs.append(replace(instr, target=copy.name))
        blocks.append(replace(block, instrs=tuple(instrs)))
    return replace(process, blocks=tuple(blocks), arrays=(*process.arrays, *copies.values()))


def _pairs_of(design: Design) -> tuple[_Pair, ...]:
    """Who fills and who reads each shared array."""
    found: dict[tuple[str, str], list[Array]] = {}
    for array in design.shared:
        writers = _users(design, "store", array)
        readers = _users(design, "load", array)
        if not writers and not readers:
            continue
        if len(writers) != 1 or len(readers) != 1 or writers == readers:
            raise HlsError(
                f"array {array.name} between processes is written by {_listed(writers)} and read by "
                f"{_listed(readers)}; it needs one process that writes it and another that reads it",
                array.loc,
            )
        found.setdefault((writers[0], readers[0]), []).append(array)
    return tuple(
        _Pair(producer=producer, consumer=consumer, arrays=tuple(arrays))
        for (producer, consumer), arrays in found.items()
    )


def _with_tokens(process: Process, pairs: tuple[_Pair, ...]) -> Process:
    """The process with the halves of its shared arrays as a first index, and its token traffic."""
    for pair in pairs:
        if process.name == pair.producer:
            process = _join(process, pair, take=pair.free, give=pair.full)
        elif process.name == pair.consumer:
            process = _join(process, pair, take=pair.full, give=pair.free)
    return process


def _users(design: Design, op: str, array: Array) -> list[str]:
    return [process.name for process in design.processes if _accesses(process, op, array)]


def _accesses(process: Process, op: str, array: Array) -> bool:
    return any(i.op == op and i.target == array.name for block in process.blocks for i in block.instrs)


def _listed(names: list[str]) -> str:
    return " and ".join(names) or "none"


def _join(process: Process, pair: _Pair, *, take: Stream, give: Stream) -> Process:
    halves = [
        replace(array, dims=(_HALVES, *array.dims), partitioned=(False, *array.partitioned))
        for array in pair.arrays
    ]
    register = Array(name=pair.half, width=1, dims=(), partitioned=(), scope="static")
    names = {array.name for array in pair.arrays}
    blocks = [_indexed(block, pair, names) for block in process.blocks]
    taken = Instr(op="stream_read", width=1, result=f"{take.name}.token", target=take.name)
    blocks[0] = replace(blocks[0], instrs=(taken, *blocks[0].instrs))
    blocks = [block if isinstance(block.end, Branch) else _ended(block, pair, give) for block in blocks]
    return replace(process, blocks=tuple(blocks), arrays=(*process.arrays, *halves, register))


def _indexed(block: Block, pair: _Pair, names: set[str]) -> Block:
    """Put the half in front of the indices of each access."""
    half = Ref(1, f"{pair.half}.{block.label}")
    instrs: list[Instr] = []
    for instr in block.instrs:
        if instr.op in ("load", "store") and instr.target in names:
            if not any(made.result == half.name for made in instrs):
                instrs.append(Instr(op="load", width=1, result=half.name, target=pair.half))
            instr = replace(instr, args=(half, *instr.args))
        instrs.append(instr)
    return replace(block, instrs=tuple(instrs))


def _ended(block: Block, pair: _Pair, give: Stream) -> Block:
    """Turn to the other half and give the token."""
    old, new = Ref(1, f"{pair.half}.{block.label}.old"), Ref(1, f"{pair.half}.{block.label}.new")
    turn = (
        Instr(op="load", width=1, result=old.name, target=pair.half),
        Instr(op="xor", width=1, result=new.name, args=(old, Const(1, 1))),
        Instr(op="store", width=0, args=(new,), target=pair.half),
        Instr(op="stream_write", width=0, args=(Const(1, 0),), target=give.name),
    )
    return replace(block, instrs=(*block.instrs, *turn))
