# SPDX-License-Identifier: Apache-2.0
"""Whether a design keeps the rules of the IR: names, widths, and no value used before it is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from e2hls.ir.design import (
    SIDES,
    Array,
    Block,
    Branch,
    Const,
    Design,
    Instr,
    Operand,
    Phi,
    Process,
    Stream,
)
from e2hls.ir.flow_graph import FlowGraph

__all__ = ["IrError", "verify"]

_ALIKE = (
    *("add", "sub", "mul", "udiv", "sdiv", "urem", "srem", "and", "or", "xor"),
    *("shl", "lshr", "ashr", "smin", "smax", "umin", "umax"),
)
_PREDICATES = ("eq", "ne", "ult", "ule", "ugt", "uge", "slt", "sle", "sgt", "sge")
_OPERANDS = {
    **dict.fromkeys((*_ALIKE, "icmp"), 2),
    **dict.fromkeys(("zext", "sext", "trunc", "freeze", "stream_side"), 1),
    **dict.fromkeys(("stream_read", "stream_empty", "stream_full"), 0),
    "select": 3,
}
_WITHOUT_RESULT = ("store", "stream_write")


class IrError(Exception):
    """A rule of the IR that a design breaks."""


def verify(design: Design) -> None:
    """Raises: IrError for the first rule that is broken."""
    streams = (*design.inputs, *design.outputs, *design.streams)
    _unique("streams", (stream.name for stream in streams))
    _unique("processes", (process.name for process in design.processes))
    for process in design.processes:
        arrays = (*process.arrays, *design.shared)
        try:
            _unique("arrays", (array.name for array in arrays))
            _Verifier(process, streams, arrays).run()
        except IrError as error:
            raise IrError(f"process {process.name}: {error}") from None


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise IrError(otherwise)


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        _require(name not in seen, f"two {what} are called {name}")
        seen.add(name)


class _Verifier:
    """Checks one process."""

    def __init__(self, process: Process, streams: Iterable[Stream], arrays: Iterable[Array]) -> None:
        self._process = process
        self._streams = {stream.name: stream for stream in streams}
        self._arrays = {array.name: array for array in arrays}
        self._blocks = {block.label: block for block in process.blocks}
        self._made: dict[str, tuple[str, int, int]] = {}  # value -> block, place in it, width
        self._dominators: dict[str, frozenset[str]] = {}

    def run(self) -> None:
        """Raises: IrError."""
        blocks = self._process.blocks
        _unique("blocks", (block.label for block in blocks))
        _unique("values", (made.result for block in blocks for made in _values(block)))
        for label in (*self._process.loops, *self._process.steps):
            _require(label in self._blocks, f"there is no block {label}")
        for block in blocks:
            self._made |= {phi.result: (block.label, -1, phi.width) for phi in block.phis}
            for at, instr in enumerate(block.instrs):
                if instr.result:
                    self._made[instr.result] = block.label, at, instr.width
        graph = FlowGraph(blocks[0].label, {block.label: tuple(self._targets(block)) for block in blocks})
        self._dominators = {label: frozenset(each) for label, each in graph.dominators.items()}
        for label in graph.order:
            self._block(self._blocks[label], graph.predecessors[label])

    def _targets(self, block: Block) -> Iterator[str]:
        if not isinstance(block.end, Branch):
            return
        other = () if block.end.cond is None else (block.end.other,)
        for target in dict.fromkeys((block.end.then, *other)):
            _require(target in self._blocks, f"{block.label} ends in a branch to {target}, which is no block")
            yield target

    def _block(self, block: Block, predecessors: list[str]) -> None:
        for phi in block.phis:
            where = f"{block.label}, {phi.result}"
            for label in predecessors:
                _require(label in phi.incoming, f"{where}: the phi has no value from {label}")
                value = phi.incoming[label]
                self._operand(value, label, len(self._blocks[label].instrs), where)
                _require(value.width == phi.width, f"{where}: {value.width} bits come from {label}")
        for at, instr in enumerate(block.instrs):
            where = f"{block.label}, {instr.result or instr.op}"
            for operand in instr.args:
                self._operand(operand, block.label, at, where)
            self._instr(instr, where)
        cond = block.end.cond if isinstance(block.end, Branch) else None
        if cond is not None:
            self._operand(cond, block.label, len(block.instrs), f"{block.label}, branch")
            _require(cond.width == 1, f"{block.label}, branch: the condition has {cond.width} bits")

    def _operand(self, operand: Operand, label: str, at: int, where: str) -> None:
        """Whether the ``at``-th instruction of a block can use an operand."""
        if isinstance(operand, Const):
            fits = 0 <= operand.value < 1 << operand.width
            _require(fits, f"{where}: a constant has more than {operand.width} bits")
            return
        _require(operand.name in self._made, f"{where}: there is no value {operand.name}")
        home, place, width = self._made[operand.name]
        _require(operand.width == width, f"{where}: {operand.name} has {width} bits, not {operand.width}")
        before = place < at if home == label else home in self._dominators[label]
        _require(before, f"{where}: {operand.name} may be used before it is made")

    def _instr(self, instr: Instr, where: str) -> None:
        widths = [arg.width for arg in instr.args]
        _require(
            _OPERANDS.get(instr.op) in (None, len(widths)), f"{where}: {instr.op} has {len(widths)} operands"
        )
        if instr.op in _WITHOUT_RESULT:
            _require(not instr.result and instr.width == 0, f"{where}: {instr.op} has a result")
        else:
            _require(bool(instr.result) and instr.width > 0, f"{where}: {instr.op} has no result")
        if instr.op in ("load", "store"):
            self._access(instr, widths, where)
        elif instr.op.startswith("stream_"):
            self._stream(instr, widths, where)
        else:
            agree = _widths_agree(instr, widths)
            _require(agree, f"{where}: {instr.op} makes {instr.width} bits of {widths}")

    def _access(self, instr: Instr, widths: list[int], where: str) -> None:
        _require(instr.target in self._arrays, f"{where}: there is no array {instr.target}")
        array = self._arrays[instr.target]
        indices = len(widths) - (instr.op == "store")
        _require(indices == len(array.dims), f"{where}: {array.name} has {indices} indices")
        width = widths[-1] if instr.op == "store" else instr.width
        _require(
            width == array.width, f"{where}: {width} bits of {array.name}, whose elements have {array.width}"
        )

    def _stream(self, instr: Instr, widths: list[int], where: str) -> None:
        """A word is without its side channels until they are joined to it."""
        _require(instr.target in self._streams, f"{where}: there is no stream {instr.target}")
        stream = self._streams[instr.target]
        word = stream.data_bits + stream.axis
        if instr.op == "stream_read":
            _require(instr.width in (word, stream.width), f"{where}: a word of {instr.width} bits is read")
        elif instr.op == "stream_write":
            apart = [word, *(width for _, width in stream.sides)]
            _require(widths in ([stream.width], apart), f"{where}: a word of {widths} bits is written")
        elif instr.op == "stream_side":
            _require(instr.predicate in SIDES, f"{where}: there is no side channel {instr.predicate}")


def _values(block: Block) -> Iterator[Phi | Instr]:
    yield from block.phis
    yield from (instr for instr in block.instrs if instr.result)


def _widths_agree(instr: Instr, widths: list[int]) -> bool:
    width = instr.width
    if instr.op in (*_ALIKE, "freeze"):
        return all(each == width for each in widths)
    if instr.op == "icmp":
        return width == 1 and widths[0] == widths[1] and instr.predicate in _PREDICATES
    if instr.op == "select":
        return widths == [1, width, width]
    return widths[0] > width if instr.op == "trunc" else widths[0] < width
