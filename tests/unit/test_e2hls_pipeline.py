# SPDX-License-Identifier: Apache-2.0
"""The passes: their list, what each keeps, and what the verifier finds when one does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from e2hls import pipeline
from e2hls.backend.xls_nodes import CycleError, Node, ordered
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlOptions
from e2hls.frontend.translation import Translation
from e2hls.ir import Array, Block, Branch, Const, Design, Instr, Phi, Process, Ref, Return, Stream
from e2hls.ir.flow_graph import FlowGraph, Loop
from e2hls.ir.interpreter import run_design
from e2hls.ir.verifier import IrError, verify
from e2hls.passes.narrow import narrow
from e2hls.pipeline import PASSES, Pass, Watch, generate, lower

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def test_the_page_lists_the_passes_in_order() -> None:
    rows = re.findall(r"^\| (\d+) \| (\S+) \| (.*) \|$", (ROOT / "docs/hls.md").read_text(), re.M)
    assert rows == [(str(number), each.name, each.does) for number, each in enumerate(PASSES, 1)]


class Designs(Watch):
    """Keeps the design that each pass leaves."""

    def __init__(self) -> None:
        super().__init__(verify_llvm=True)
        self.kept: dict[str, Design] = {}

    def after(self, done: Pass, state: object) -> None:
        super().after(done, state)  # type: ignore[arg-type]
        if isinstance(state, Design):
            self.kept[done.name] = state


@pytest.mark.parametrize(
    ("folder", "name"), [("unit", "control"), ("unit", "fills"), ("unit", "scalars"), ("rtl", "pingpong")]
)
def test_passes_over_the_ir_keep_what_a_design_computes(folder: str, name: str, tmp_path: Path) -> None:
    designs = Designs()
    source = HERE.parent / folder / "kernels" / f"{name}.cpp"
    generate(lower(Kernel(name, source), designs), RtlOptions(), tmp_path, designs)
    names = ["lower", "partition", "narrow", "side-channels", "own-streams"]
    assert list(designs.kept) == [*names, "shared-scalars", "ping-pong"]
    inputs = {
        stream.name: [(37 * at * at + 11) % (1 << stream.data_bits) for at in range(600)]
        for stream in designs.kept["lower"].inputs
    }
    outputs = [run_design(design, inputs) for design in designs.kept.values()]
    assert all(outputs[0].values())
    assert outputs == len(outputs) * outputs[:1]


def counting() -> Design:
    """Sums of four words each."""
    loop = Block(
        label="loop",
        phis=(
            Phi(result="i", width=3, incoming={"entry": Const(3, 0), "loop": Ref(3, "next")}),
            Phi(result="sum", width=8, incoming={"entry": Const(8, 0), "loop": Ref(8, "total")}),
        ),
        instrs=(
            Instr(op="stream_read", width=8, result="word", target="x"),
            Instr(op="add", width=8, result="total", args=(Ref(8, "sum"), Ref(8, "word"))),
            Instr(op="store", width=0, args=(Ref(3, "i"), Ref(8, "total")), target="a"),
            Instr(op="add", width=3, result="next", args=(Ref(3, "i"), Const(3, 1))),
            Instr(op="icmp", width=1, result="more", args=(Ref(3, "next"), Const(3, 4)), predicate="ult"),
        ),
        end=Branch(then="loop", cond=Ref(1, "more"), other="done"),
    )
    write = Instr(op="stream_write", width=0, args=(Ref(8, "total"),), target="y")
    process = Process(
        name="p",
        blocks=(
            Block(label="entry", phis=(), instrs=(), end=Branch(then="loop")),
            loop,
            Block(label="done", phis=(), instrs=(write,), end=Return()),
        ),
        arrays=(Array(name="a", width=8, dims=(4,), partitioned=(False,), scope="local"),),
    )
    return Design(
        name="p",
        inputs=(Stream(name="x", width=8),),
        outputs=(Stream(name="y", width=8),),
        processes=(process,),
    )


def with_instr(at: int, **changes: object) -> Callable[[Design], Design]:
    """The design with other fields in one instruction of its loop."""

    def change(design: Design) -> Design:
        (process,) = design.processes
        entry, loop, done = process.blocks
        instrs = list(loop.instrs)
        instrs[at] = replace(instrs[at], **changes)  # type: ignore[arg-type]
        blocks = (entry, replace(loop, instrs=tuple(instrs)), done)
        return replace(design, processes=(replace(process, blocks=blocks),))

    return change


def with_block(at: int, **changes: object) -> Callable[[Design], Design]:
    """The design with other fields in one block."""

    def change(design: Design) -> Design:
        (process,) = design.processes
        blocks = list(process.blocks)
        blocks[at] = replace(blocks[at], **changes)  # type: ignore[arg-type]
        return replace(design, processes=(replace(process, blocks=tuple(blocks)),))

    return change


BROKEN = {
    "loop, total: there is no value gone": with_instr(1, args=(Ref(8, "sum"), Ref(8, "gone"))),
    "loop, total: sum has 8 bits, not 9": with_instr(1, args=(Ref(9, "sum"), Ref(8, "word"))),
    "loop, more: more may be used before it is made": with_instr(4, args=2 * (Ref(1, "more"),)),
    "loop, sum: total has 9 bits, not 8": with_instr(1, width=9),
    "loop, total: add makes 8 bits of [8, 3]": with_instr(1, args=(Ref(8, "sum"), Ref(3, "i"))),
    "loop, total: add has 1 operands": with_instr(1, args=(Ref(8, "sum"),)),
    "loop, total: a constant has more than 8 bits": with_instr(1, args=(Ref(8, "sum"), Const(8, 256))),
    "loop, more: icmp makes 2 bits of [3, 3]": with_instr(4, width=2),
    "loop, icmp: icmp has no result": with_instr(4, result=""),
    "loop, n: store has a result": with_instr(2, result="n"),
    "loop, word: a word of 9 bits is read": with_instr(0, width=9),
    "loop, word: there is no stream z": with_instr(0, target="z"),
    "loop, store: there is no array b": with_instr(2, target="b"),
    "loop, store: a has 0 indices": with_instr(2, args=(Ref(8, "total"),)),
    "loop, store: 3 bits of a, whose elements have 8": with_instr(2, args=2 * (Ref(3, "i"),)),
    "two values are called word": with_instr(3, result="word"),
    "two blocks are called done": with_block(0, label="done"),
    "entry ends in a branch to gone, which is no block": with_block(0, end=Branch(then="gone")),
    "loop, i: the phi has no value from start": with_block(0, label="start"),
    "loop, branch: the condition has 3 bits": with_block(
        1, end=Branch(then="loop", cond=Ref(3, "next"), other="done")
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_the_verifier_names_what_is_broken(message: str) -> None:
    verify(counting())
    with pytest.raises(IrError, match=f"^process p: {re.escape(message)}$"):
        verify(BROKEN[message](counting()))


def test_a_pass_that_breaks_the_ir_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = Pass("ping-pong", "", with_instr(1, width=9))
    monkeypatch.setattr(pipeline, "_PING_PONG", broken)
    message = (
        "pass ping-pong left a broken design, please report it: process p: loop, sum: total has 9 bits, not 8"
    )
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        generate(counting(), RtlOptions(), tmp_path)


def test_a_pass_that_breaks_llvm_ir_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(translation: Translation) -> None:
        next(iter(translation.module.functions.values())).blocks["entry"].insert(0, "%v = add i8 %gone, 1")

    monkeypatch.setattr(pipeline, "_LLVM_PASSES", (Pass("spoil", "", spoil),))
    kernel = Kernel("vadd", HERE.parent / "rtl/kernels/vadd.cpp")
    broken = "^pass spoil left a broken design, please report it: .*use of undefined value '%gone'"
    with pytest.raises(HlsError, match=broken):
        lower(kernel, Watch(verify_llvm=True))


def test_dominators_and_loops() -> None:
    graph = FlowGraph(
        "a",
        {"a": "b", "b": "cx", "c": "e", "x": "e", "e": "bf", "f": "fg", "g": "", "away": "a"},
    )
    assert graph.order[0] == "a"
    assert {label: "".join(each) for label, each in graph.dominators.items()} == {
        **{"a": "a", "b": "ab", "c": "abc", "x": "abx", "e": "abe", "f": "abef", "g": "abefg"}
    }
    assert graph.loops == [Loop("b", frozenset("bcxe"), ("e",)), Loop("f", frozenset("f"), ("f",))]
    assert sorted(graph.retreating) == [("e", "b"), ("f", "f")]


def test_a_cycle_with_two_entries_is_no_loop_but_is_broken() -> None:
    graph = FlowGraph("a", {"a": "bc", "b": "c", "c": "b"})
    assert graph.loops == []
    assert graph.retreating == [("c", "b")]


def test_nodes_are_printed_as_xls_reads_them() -> None:
    select = Node("bits[8]", "sel", ("c", "x", "y"))
    receive = Node("(token, bits[8])", "receive", ("tok",), (("predicate", "c"),), (("channel", "c"),))
    assert str(select) == "bits[8] = sel(c, cases=[x, y])"
    assert str(receive) == "(token, bits[8]) = receive(tok, predicate=c, channel=c)"
    assert list(receive.uses) == ["tok", "c"]


def test_nodes_come_after_their_operands() -> None:
    nodes = {
        "value": Node("bits[8]", "not", ("b",)),
        "b": Node("bits[8]", "bit_slice", ("state",), attributes=(("width", 8),)),
        "width": Node("bits[8]", "neg", ("value",)),
    }
    assert ordered(nodes, ["value"]) == ["b", "value"]  # no name is taken for a keyword of another node
    nodes["b"] = Node("bits[8]", "not", ("value",))
    with pytest.raises(CycleError, match=r"^value -> b -> value$"):
        ordered(nodes, ["value"])


def test_a_value_of_which_no_bit_is_needed_leaves_a_sound_design() -> None:
    """Shifted out of all that is stored, it is dropped, and the shift takes a 0 in its place."""
    word = Instr(op="stream_read", width=8, result="word", target="x")
    dropped = Instr(op="add", width=16, result="dropped", args=(Const(16, 3), Const(16, 4)))
    shifted = Instr(op="shl", width=16, result="high", args=(Ref(16, "dropped"), Const(16, 8)))
    low = Instr(op="trunc", width=8, result="low", args=(Ref(16, "high"),))
    total = Instr(op="or", width=8, result="total", args=(Ref(8, "word"), Ref(8, "low")))
    write = Instr(op="stream_write", width=0, args=(Ref(8, "total"),), target="y")
    block = Block(label="entry", phis=(), instrs=(word, dropped, shifted, low, total, write), end=Return())
    design = counting()
    design = replace(design, processes=(Process(name="p", blocks=(block,), arrays=()),))
    narrowed = narrow(design)
    verify(narrowed)
    assert "dropped" not in [instr.result for instr in narrowed.processes[0].blocks[0].instrs]
    assert run_design(narrowed, {"x": [5, 9]}) == {"y": [5, 9]}
