# SPDX-License-Identifier: Apache-2.0
"""Designs written by hand."""

from __future__ import annotations

from e2hls.base.errors import Loc
from e2hls.ir import Array, Block, Branch, Const, Design, Instr, LoopInfo, Phi, Process, Ref, Return, Stream

__all__ = ["accumulate", "buffered", "ins", "pingpong"]

X = Stream(name="x", width=16)
Y = Stream(name="y", width=32)


def ins(op, width, result="", *args, **more):
    return Instr(op=op, width=width, result=result, args=args, **more)


def accumulate() -> Design:
    """y = sums of four products x * x, for ever."""
    loop = Block(
        label="loop",
        phis=(
            Phi(result="i", width=3, incoming={"entry": Const(3, 0), "loop": Ref(3, "i1")}),
            Phi(result="sum", width=32, incoming={"entry": Const(32, 0), "loop": Ref(32, "sum1")}),
        ),
        instrs=(
            ins("stream_read", 16, "word", target="x"),
            ins("sext", 32, "wide", Ref(16, "word")),
            ins("mul", 32, "product", Ref(32, "wide"), Ref(32, "wide")),
            ins("add", 32, "sum1", Ref(32, "sum"), Ref(32, "product")),
            ins("add", 3, "i1", Ref(3, "i"), Const(3, 1)),
            ins("icmp", 1, "more", Ref(3, "i1"), Const(3, 4), predicate="ne"),
        ),
        end=Branch(then="loop", cond=Ref(1, "more"), other="end"),
    )
    end = Block(
        label="end", phis=(), instrs=(ins("stream_write", 0, "", Ref(32, "sum1"), target="y"),), end=Return()
    )
    entry = Block(label="entry", phis=(), instrs=(), end=Branch(then="loop"))
    loops = {"loop": LoopInfo(name="words", ii=1)}
    process = Process(name="squares", blocks=(entry, loop, end), arrays=(), loops=loops)
    return Design(name="squares", inputs=(X,), outputs=(Y,), processes=(process,))


def counted(label: str, before: str, after: str, body: tuple[Instr, ...], trips: int = 8) -> Block:
    """A loop of one block with the counter ``label.i``."""
    i, i1 = Ref(4, f"{label}.i"), Ref(4, f"{label}.i1")
    return Block(
        label=label,
        phis=(Phi(result=i.name, width=4, incoming={before: Const(4, 0), label: i1}),),
        instrs=(
            *body,
            ins("add", 4, i1.name, i, Const(4, 1)),
            ins("icmp", 1, f"{label}.end", i1, Const(4, trips), predicate="eq"),
        ),
        end=Branch(then=after, cond=Ref(1, f"{label}.end"), other=label),
    )


def buffered(*, extra: tuple[Instr, ...] = ()) -> Design:
    """Eight words, reversed: written to a RAM by one loop, read by the next."""
    array = Array(name="buf", width=16, dims=(8,), partitioned=(False,), scope="local", loc=Loc("k.cpp", 3))
    fill = (
        ins("stream_read", 16, "word", target="x"),
        ins("store", 0, "", Ref(4, "fill.i"), Ref(16, "word"), target="buf"),
    )
    drain = (
        ins("sub", 4, "at", Const(4, 7), Ref(4, "drain.i")),
        ins("load", 16, "read", Ref(4, "at"), target="buf", loc=Loc("k.cpp", 9)),
        *extra,
        ins("zext", 32, "out", Ref(16, "read")),
        ins("stream_write", 0, "", Ref(32, "out"), target="y"),
    )
    blocks = (
        Block(label="entry", phis=(), instrs=(), end=Branch(then="fill")),
        counted("fill", "entry", "drain", fill),
        counted("drain", "fill", "end", drain),
        Block(label="end", phis=(), instrs=(), end=Return()),
    )
    loops = {name: LoopInfo(name=name, ii=1, loc=Loc("k.cpp", 5)) for name in ("fill", "drain")}
    process = Process(name="reverse", blocks=blocks, arrays=(array,), loops=loops)
    return Design(name="reverse", inputs=(X,), outputs=(Y,), processes=(process,))


def pingpong() -> Design:
    """The same with two processes and a ping-pong memory between them."""
    whole = buffered().processes[0]
    fill = counted("fill", "entry", "end", whole.blocks[1].instrs[:2])
    drain = counted("drain", "entry", "end", whole.blocks[2].instrs[:-2])
    end = Block(label="end", phis=(), instrs=(), end=Return())

    def process(name: str, loop: Block) -> Process:
        entry = Block(label="entry", phis=(), instrs=(), end=Branch(then=loop.label))
        return Process(
            name=name, blocks=(entry, loop, end), arrays=(), loops={loop.label: whole.loops[loop.label]}
        )

    shared = Array(name="buf", width=16, dims=(8,), partitioned=(False,), scope="shared")
    processes = (process("load", fill), process("store", drain))
    return Design(name="twins", inputs=(X,), outputs=(Y,), processes=processes, shared=(shared,))
