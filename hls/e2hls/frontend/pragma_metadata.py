# SPDX-License-Identifier: Apache-2.0
"""Reads the pragma markers out of inlined LLVM IR and writes what they say of loops into loop metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.debug_info import DebugInfo
from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Function, Line, Module, parse_line, split_operands, unquote
from e2hls.frontend.pointers import Pointer, gep
from e2hls.frontend.translation_unit import TranslationUnit
from e2hls.ir import LoopInfo
from e2hls.ir.flow_graph import Loop

__all__ = ["Mark", "MarkedLoop", "Marks", "loop_number", "read_marks"]

_MARK = re.compile(r"^call void @_Z\d+__hls_mark_(?P<kind>[a-z]+?)(?:PVKvi*|i|v)\((?P<args>.*)\)")
_AUTO = -0x7FFFFFFF  # as in hls_pragma.h
_INCOMING = re.compile(r"\[ ([^,]+), %")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a pragma says of a variable: of all behind ``place`` in an array, ``step`` bytes apart."""

    function: str
    kind: str
    place: Pointer
    step: int  # 0 for what is no array; what walks along an array means all of it
    values: tuple[int, ...]  # a depth; or a dimension, how it is split and in how many parts
    loc: Loc | None


@dataclass(frozen=True, slots=True)
class MarkedLoop:
    """A loop of the source and whether it must disappear."""

    info: LoopInfo
    must_unroll: bool


@dataclass(slots=True)
class Marks:
    """All that the pragmas of a kernel say."""

    loops: list[MarkedLoop] = field(default_factory=list)  # by number in the loop metadata
    variables: list[Mark] = field(default_factory=list)
    dataflow: set[str] = field(default_factory=set)  # functions whose calls are processes
    pipelined: dict[str, LoopInfo] = field(default_factory=dict)  # functions that are pipelined themselves


def read_marks(module: Module, functions: tuple[str, ...], debug: DebugInfo, unit: TranslationUnit) -> Marks:
    """Take the marker calls out of ``functions`` and give each loop one latch and its metadata.

    Raises: HlsError for a constant that a pragma needs and does not get.
    """
    marks, layout = Marks(), Layout(module.others)
    for name in functions:
        function = module.functions[name]
        calls = _take_out(function, layout, marks, debug, unit)
        loops = function.flow().loops
        plan = _plan(function, loops, calls, marks, debug)
        for loop in loops:
            _label_loop(module, function, loop, plan[loop.header], marks, debug, unit.labels)
    return marks


def loop_number(metadata: Mapping[str, str], node: str) -> int | None:
    """The number that was given to the loop with this metadata node."""
    for part in re.findall(r"!(\d+)", metadata.get(node, "")):
        found = re.match(r'!\{!"hls\.loop", i32 (\d+)\}', metadata.get(part, ""))
        if found:
            return int(found[1])
    return None


def _take_out(
    function: Function, layout: Layout, marks: Marks, debug: DebugInfo, unit: TranslationUnit
) -> list[tuple[str, str, int, str, Loc | None]]:
    """Remove the markers; return those of loops as (block, kind, value, debug location, place)."""
    calls = []
    definitions = {line.result: line for line in map(parse_line, function.lines()) if line.result}
    for label, lines in function.blocks.items():
        kept = []
        for text in lines:
            found = _MARK.match(text)
            if not found:
                kept.append(text)
                continue
            number = parse_line(text).attached.get("dbg", "")
            loc = unit.written(debug.loc(number))
            args = [_token(operand) for operand in split_operands(found["args"])]
            kind = found["kind"]
            if kind == "dataflow":
                marks.dataflow.add(function.name)
            elif kind in ("pipeline", "unroll"):
                calls.append((label, kind, _constant(args[0], kind, loc), number, loc))
            else:
                step, *values = (_constant(arg, kind, loc) for arg in args[1:] or ("0",))
                place = _place(args[0], definitions, layout, loc)
                marks.variables.append(Mark(function.name, kind, place, step, tuple(values), loc))
        function.blocks[label] = kept
    return calls


def _token(operand: str) -> str:
    """An operand without its type and attributes."""
    found = re.search(r"getelementptr .*|\S+$", operand)
    return found[0] if found else operand


def _place(token: str, definitions: Mapping[str, Line], layout: Layout, loc: Loc | None) -> Pointer:
    """The variable, and the bytes into it, that an address leads to; one that walks starts there."""
    walking: set[str] = set()

    def resolve(each: str) -> Pointer:
        if each.startswith("@"):
            return Pointer(f"@{unquote(each[1:])}")
        if each.startswith("getelementptr"):
            return gep(each, layout, resolve)
        name = unquote(each.removeprefix("%"))
        line = definitions.get(name)
        if line is None or line.op == "alloca":
            return Pointer(f"%{name}")
        if line.op == "getelementptr":
            return gep(line.body, layout, resolve)
        starts = []
        if line.op == "phi" and name not in walking:
            walking.add(name)
            starts = [place for value in _INCOMING.findall(line.body) if (place := resolve(value)).base]
        elif name in walking:
            return Pointer("")
        if len({place.base for place in starts}) != 1:
            raise HlsError("which variable this pragma names is decided at run time; name the variable", loc)
        return starts[0].moved(0, ((0, "walks"),))

    return resolve(token)


def _constant(text: str, kind: str, loc: Loc | None) -> int:
    if not re.fullmatch(r"-?\d+", text):
        raise HlsError(f"pragma HLS {kind.upper()} needs a constant number", loc)
    return int(text)


@dataclass(slots=True)
class _Plan:
    ii: int = 0
    unroll: bool = False
    factor: int = 1  # of unrolling in part


def _plan(
    function: Function,
    loops: list[Loop],
    calls: list[tuple[str, str, int, str, Loc | None]],
    marks: Marks,
    debug: DebugInfo,
) -> dict[str, _Plan]:
    plan = {loop.header: _Plan() for loop in loops}
    for block, kind, value, number, loc in calls:
        around = [loop for loop in loops if block in loop.blocks]
        if kind == "unroll":
            if not around:
                raise HlsError("pragma HLS UNROLL must stand first in the body of a loop", loc)
            if value < 0:
                raise HlsError(f"pragma HLS UNROLL factor={value} must be at least 1", loc)
            plan[around[-1].header].unroll |= value == 0
            plan[around[-1].header].factor = value
            continue
        if value < 1 and value != _AUTO:
            raise HlsError(f"pragma HLS PIPELINE II={value} must be at least 1", loc)
        value = max(value, 0)
        if around:
            plan[around[-1].header].ii = value
            inner = [
                loop for loop in loops if loop.header != around[-1].header and loop.blocks < around[-1].blocks
            ]
        else:  # a function's own: where it has been inlined, its loops are meant
            inner = [loop for loop in loops if debug.in_call(_places(function, loop, debug), number)]
            if inner == loops:
                name = debug.function_name(function.name)
                marks.pipelined[function.name] = LoopInfo(name=name, ii=value, loc=loc)
        for loop in inner:
            plan[loop.header].unroll = True
    return plan


def _label_loop(
    module: Module,
    function: Function,
    loop: Loop,
    plan: _Plan,
    marks: Marks,
    debug: DebugInfo,
    labels: Mapping[tuple[str, int], str],
) -> None:
    places = _places(function, loop, debug)
    loc = debug.loc(places[0]) if places else _first_place(function, loop, debug)
    # A loop that the source does not show copies an array inside of a struct.
    must_unroll = plan.unroll or not places or debug.is_own_code(debug.first_loc(places[0]))
    name = labels.get((loc.file, loc.line), f"loop@{loc.line}") if loc else "loop"
    info = LoopInfo(name=name, ii=plan.ii, loc=loc)
    marks.loops.append(MarkedLoop(info, must_unroll))
    hint = module.add_node(_unrolling(must_unroll, plan.factor))
    number = module.add_node(f'!{{!"hls.loop", i32 {len(marks.loops) - 1}}}')
    node = module.add_node(f"distinct !{{SELF, !{hint}, !{number}}}")
    latch = _single_latch(function, loop)
    function.blocks[latch][-1] = (
        re.sub(r", !llvm\.loop !\d+", "", function.blocks[latch][-1]) + f", !llvm.loop !{node}"
    )


def _places(function: Function, loop: Loop, debug: DebugInfo) -> list[str]:
    """The debug locations of a loop: where it starts and ends."""
    attached = (parse_line(function.blocks[latch][-1]).attached.get("llvm.loop") for latch in loop.latches)
    old = next(filter(None, attached), "")
    places = [number for number in re.findall(r"!(\d+)", debug.metadata.get(old, "")) if number != old]
    return [number for number in places if "DILocation" in debug.metadata[number]]


def _unrolling(whole: bool, factor: int) -> str:
    """A node that tells LLVM to unroll a loop as a whole, in part or not at all."""
    if not whole and factor > 1:
        return f'!{{!"llvm.loop.unroll.count", i32 {factor}}}'
    return f'!{{!"llvm.loop.unroll.{"full" if whole else "disable"}"}}'


def _first_place(function: Function, loop: Loop, debug: DebugInfo) -> Loc | None:
    places = (debug.loc(parse_line(text).attached.get("dbg", "")) for text in function.blocks[loop.header])
    return next((place for place in places if place), None)


def _single_latch(function: Function, loop: Loop) -> str:
    """LLVM would split a loop with several ways back into a nest: lead them through one block."""
    if len(loop.latches) == 1:
        return loop.latches[0]
    header, latch = loop.header, f"{loop.header}.latch"
    moved: list[str] = []
    phis: list[str] = []
    for text in function.blocks[header]:
        phi = re.match(r"^(%\S+) = phi (\S+) (.*?)(, !.*)?$", text)
        if not phi:
            phis.append(text)
            continue
        pairs = re.findall(r"\[ (.+?), %([^ ]+) \]", phi[3])
        back = [f"[ {value}, %{block} ]" for value, block in pairs if block.strip('"') in loop.latches]
        rest = [f"[ {value}, %{block} ]" for value, block in pairs if block.strip('"') not in loop.latches]
        name = f"%hls.back.{len(moved)}.{re.sub(r'[^a-zA-Z0-9]', '.', header)}"
        moved.append(f"{name} = phi {phi[2]} {', '.join(back)}")
        phis.append(f"{phi[1]} = phi {phi[2]} {', '.join([*rest, f'[ {name}, %{latch} ]'])}{phi[4] or ''}")
    function.blocks[header] = phis
    for block in loop.latches:
        lines = function.blocks[block]
        lines[-1] = re.sub(rf'label %"?{re.escape(header)}"?(?=[,\s]|$)', f"label %{latch}", lines[-1])
        lines[-1] = re.sub(r", !llvm\.loop !\d+", "", lines[-1])
    function.blocks[latch] = [*moved, f"br label %{header}"]
    assert latch in function.flow().predecessors[header]
    return latch
