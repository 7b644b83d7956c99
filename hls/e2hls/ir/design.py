# SPDX-License-Identifier: Apache-2.0
"""What the front end hands to the back end: a hardware design as typed records.

Every value is an unsigned bit pattern of a stated width; signedness lives in the operation, as in LLVM.
Pointers do not exist here: the front end has resolved each memory access to an array and its indices,
and each stream access to a stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from e2hls.base.errors import Loc

__all__ = [
    "SIDES",
    "STATE_SUFFIX",
    "Array",
    "Block",
    "Branch",
    "Const",
    "Cut",
    "Design",
    "Instr",
    "LoopInfo",
    "Op",
    "Operand",
    "Phi",
    "Process",
    "Ref",
    "Return",
    "Stream",
    "Terminator",
]

Op = Literal[
    "add", "sub", "mul", "udiv", "sdiv", "urem", "srem", "and", "or", "xor", "shl", "lshr", "ashr",
    "zext", "sext", "trunc", "select", "icmp", "smin", "smax", "umin", "umax", "freeze",
    "load", "store", "stream_read", "stream_write", "stream_empty", "stream_full", "stream_side",
]  # fmt: skip

SIDES = ("keep", "strb", "user", "id", "dest")  # side channels of an AXI beat, numbered as in the headers

# Of the channel that tells whether a stream is empty or full, after the stream's name.
STATE_SUFFIX = {"stream_empty": "_is_empty", "stream_full": "_is_full"}


@dataclass(frozen=True, slots=True)
class Const:
    """A constant. Poison and undef arrive as zero with ``undef`` set: any value will do."""

    width: int
    value: int  # in 0 .. 2**width - 1
    undef: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """The result of the instruction or phi called ``name`` in the same process."""

    width: int
    name: str


Operand = Const | Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Instr:
    """One operation; ``args`` of a load are its indices, of a store the indices and then the value."""

    op: Op
    width: int  # of the result; 0 for store and stream_write
    result: str = ""
    args: tuple[Operand, ...] = ()  # of a stream_side, which no finished design has, the word it came with
    predicate: str = ""  # icmp: eq ne ult ule ugt uge slt sle sgt sge
    target: str = ""  # array or stream name
    loc: Loc | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phi:
    """``incoming`` maps each predecessor's label to the value that comes from there."""

    result: str
    width: int
    incoming: Mapping[str, Operand]
    loc: Loc | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """To ``then`` where ``cond`` (1 bit) holds, else to ``other``; unconditional where ``cond`` is None."""

    then: str
    cond: Operand | None = None
    other: str = ""
    loc: Loc | None = None


@dataclass(frozen=True, slots=True)
class Return:
    """The process ends this activation of the top function and starts the next."""


Terminator = Branch | Return


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A basic block; switches have become branches."""

    label: str
    phis: tuple[Phi, ...]
    instrs: tuple[Instr, ...]
    end: Terminator


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopInfo:
    """What the source says of the loop whose header block this is."""

    name: str  # the label in the source, or "loop@LINE"
    ii: int  # initiation interval asked for, 0 where none is
    loc: Loc | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A dimension that lies in ``parts`` memories: neighbours in different ones, or in runs."""

    parts: int
    cyclic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """A memory. ``partitioned[d]`` says that dimension ``d`` is split into separate memories.

    ``scope``: "local" holds garbage at each start of its process, "static" keeps its content between
    starts (and has ``init``), "shared" lies in a DATAFLOW function between two processes.
    """

    name: str
    width: int  # of one element
    dims: tuple[int, ...]
    partitioned: tuple[bool, ...]
    scope: Literal["local", "static", "shared"]
    init: tuple[int, ...] = ()  # row-major; empty means all zero
    cuts: Mapping[int, Cut] = field(default_factory=dict)  # by dimension; none behind the pass partition
    loc: Loc | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A FIFO of ``width``-bit words: data and, of an AXI beat, TLAST and side channels, lowest bits first."""

    name: str
    width: int
    depth: int = 2
    axis: bool = False  # an ap_axiu port: TLAST follows the data
    sides: tuple[tuple[str, int], ...] = ()  # the side channels of a word: keep, strb, ...; their widths
    initial: int = 0  # words that it holds at reset
    guards: tuple[
        str, ...
    ] = ()  # shared arrays that a process may access once it has read a word of this one
    hands_on: str = ""  # the stream whose words it has, both being of one process
    scalar: str = ""  # the shared variable whose value it carries, where the source has no such stream
    loc: Loc | None = None

    @property
    def data_bits(self) -> int:
        """Bits of a word without TLAST and side channels."""
        return self.width - self.axis - sum(width for _, width in self.sides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One hardware process: the top function, or one function called under its DATAFLOW."""

    name: str
    blocks: tuple[Block, ...]  # the first is the entry
    arrays: tuple[Array, ...]  # local and static ones; behind ping-pong its shared ones too
    loops: Mapping[str, LoopInfo] = field(default_factory=dict)  # by header label
    steps: frozenset[str] = frozenset()  # blocks that start an activation though they head no loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A kernel as processes joined by streams and shared arrays, all named as in the source."""

    name: str
    inputs: tuple[Stream, ...]
    outputs: tuple[Stream, ...]
    processes: tuple[Process, ...]
    streams: tuple[Stream, ...] = ()  # between processes
    shared: tuple[Array, ...] = ()  # ping-pong memories between processes
    notes: tuple[str, ...] = ()  # what a user is to know of the source, each with its place
