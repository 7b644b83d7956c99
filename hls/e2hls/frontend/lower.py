# SPDX-License-Identifier: Apache-2.0
"""From LLVM IR to the IR: processes, and the streams and arrays that join them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.connections import check_array, check_stream
from e2hls.frontend.llvm_text import Function, parse_line, split_operands, unquote
from e2hls.frontend.lowering import FunctionLowering
from e2hls.frontend.passed_values import PassedValue, PassedValues
from e2hls.frontend.pointers import Pointer, gep
from e2hls.frontend.prepare import reject_keyword
from e2hls.frontend.translation import Translation
from e2hls.frontend.variables import Port
from e2hls.ir import Block, Const, Design, LoopInfo, Process
from e2hls.ir.flow_graph import FlowGraph, Loop

__all__ = ["lower"]

_INSTEAD = {  # what it does in their place, and who can
    "br": "; branches and loops are for its processes",
    "store": "; variables get their values from its processes",
    "call": "; this one is no process, as it returns a value or is called elsewhere too",
}
_NO_EFFECT = ("llvm.lifetime", "llvm.assume", "llvm.experimental.noalias")


def lower(translation: Translation) -> Design:
    """The design that the optimised LLVM IR of a kernel describes.

    Raises: HlsError for what has no counterpart in hardware, with its place in the source.
    """
    return _Lowering(translation).design()


@dataclass(frozen=True, slots=True)
class _Call:
    """A process: a function, and what its parameters are bound to."""

    name: str
    function: str
    binding: dict[str, Pointer | Const | PassedValue]


class _Lowering:
    """The lowering of a whole module."""

    def __init__(self, translation: Translation) -> None:
        self._translation = translation
        self._kernel, self._module = translation.kernel, translation.module
        self._kept, self._debug = translation.kept, translation.debug
        self._layout, self._variables = translation.layout, translation.variables
        self._pragmas = translation.pragmas

    def design(self) -> Design:
        """All processes, and the streams and arrays that join them."""
        calls = self._calls()
        lowered = [self._process(call) for call in calls]
        self._apply_pragmas(calls)
        memories, ports = self._variables.used(), self._variables.ports
        for memory in memories:
            check_array(memory)
        inputs, outputs = self._ports()
        top_ports = {id(port) for port in (*inputs, *outputs)}
        internal = [port for port in ports.values() if id(port) not in top_ports]
        for port in ports.values():
            check_stream(port, internal=id(port) not in top_ports)
        return Design(
            name=self._kernel.name,
            inputs=tuple(port.stream() for port in inputs),
            outputs=tuple(port.stream() for port in outputs),
            processes=tuple(
                Process(
                    name=name,
                    blocks=blocks,
                    arrays=tuple(each.array() for each in memories if list(each.users) == [name]),
                    loops=loops,
                )
                for name, blocks, loops in lowered
            ),
            streams=tuple(port.stream() for port in internal),
            shared=tuple(each.array() for each in memories if len(each.users) > 1),
            notes=tuple(dict.fromkeys(self._translation.unit.notes)),
        )

    def _calls(self) -> list[_Call]:
        """The processes in the order in which the source calls them."""
        top = self._module.functions[self._kernel.name]
        binding: dict[str, Pointer | Const | PassedValue] = {}
        for kind, name in top.params:
            if kind != "ptr":
                raise HlsError(
                    f"the parameter {name} of {top.name} is no hls::stream&",
                    self._debug.function_loc(top.name),
                )
            binding[name] = Pointer(f"{top.name}:%{name}")
            self._variables.port(f"{top.name}:%{name}", name, self._debug.function_loc(top.name))
        if top.name not in self._pragmas.dataflow:
            return [_Call(self._debug.function_name(top.name), top.name, binding)]
        return self._dataflow(top)

    def _dataflow(self, top: Function) -> list[_Call]:
        pointers: dict[str, Pointer] = {}
        calls: list[_Call] = []

        def resolve(token: str) -> Pointer:
            if token.startswith("@"):
                return Pointer(f"@{unquote(token[1:])}")
            name = unquote(token.removeprefix("%"))
            return pointers.get(name) or Pointer(f"{top.name}:%{name}")

        values = PassedValues(self._layout, resolve)
        for text in top.lines():
            line = parse_line(text)
            loc = self._debug.loc(line.attached.get("dbg", "")) or self._debug.function_loc(top.name)
            call = re.search(r'call void @("[^"]*"|[\w.$-]+)\((.*)\)', line.body)
            callee = unquote(call[1]) if call else ""
            if line.op == "getelementptr":
                pointers[line.result] = gep(line.body, self._layout, resolve)
            elif call and callee in self._kept:
                function = self._module.functions[callee]
                arguments = split_operands(call[2])
                binding = {
                    name: values.find(argument) or self._argument(argument, resolve, name, callee, loc)
                    for (_, name), argument in zip(function.params, arguments, strict=True)
                }
                calls.append(_Call(self._unique_process(callee, calls), callee, binding))
            elif line.op not in ("alloca", "ret") and not (
                callee.startswith(_NO_EFFECT) or values.take(line, loc)
            ):
                raise HlsError(
                    "a DATAFLOW function may only declare variables, compute values and call functions"
                    + _INSTEAD.get(line.op, ""),
                    loc,
                )
        return calls

    def _unique_process(self, function: str, calls: list[_Call]) -> str:
        base = re.sub(r"\W", "_", self._debug.function_name(function))
        reject_keyword(f"{self._kernel.name}_{base}", self._debug.function_loc(function), base)
        same = sum(
            call.function == function or re.fullmatch(rf"{base}(_\d+)?", call.name) is not None
            for call in calls
        )
        return f"{base}_{same}" if same else base

    def _argument(
        self, argument: str, resolve: object, name: str, function: str, loc: Loc | None
    ) -> Pointer | Const:
        token = argument.split()[-1]
        if argument.startswith("ptr"):
            assert callable(resolve)
            pointer = (
                gep(argument[argument.index("getelementptr") :], self._layout, resolve)
                if ("getelementptr" in argument)
                else resolve(token)
            )
            assert isinstance(pointer, Pointer)
            if pointer.terms:
                process = self._debug.function_name(function)
                raise HlsError(
                    f"where {name} of {process} begins is decided at run time; pass the array and an index",
                    loc,
                )
            return pointer
        if re.fullmatch(r"-?\d+|true|false", token):
            width = int(argument.split()[0][1:])
            return Const(width, int({"true": "1", "false": "0"}.get(token, token)) % (1 << width))
        process = self._debug.function_name(function)
        raise HlsError(
            f"{name} of {process} is no stream, array or constant; pass the value by a stream", loc
        )

    def _ports(self) -> tuple[list[Port], list[Port]]:
        top = self._module.functions[self._kernel.name]
        inputs: list[Port] = []
        outputs: list[Port] = []
        for _, name in top.params:
            port = self._variables.ports[f"{top.name}:%{name}"]
            if bool(port.readers) == bool(port.writers):
                if not port.readers:
                    self._reject_endless(name)
                what = "read and written" if port.readers else "never used"
                raise HlsError(f"the stream {name} is {what}; a port goes one way", port.loc)
            (inputs if port.readers else outputs).append(port)
        return inputs, outputs

    def _reject_endless(self, stream: str) -> None:
        """Refuse a loop behind which a stream may have been used: LLVM has left out what is never reached.

        Raises: HlsError with its place, or that of a function that never returns for another reason.
        """
        for function in self._translation.functions():
            flow = function.flow()
            ends = {label: parse_line(function.blocks[label][-1]) for label in flow.order}
            if any(end.op == "ret" for end in ends.values()):
                continue
            loops = (loop for loop in flow.loops if self._is_endless(loop, flow))
            latch = next((loop.latches[0] for loop in loops), None)
            loc = self._debug.loc(ends[latch].attached.get("dbg", "")) if latch else None
            why = "this loop does not end" if latch else "it comes to what C++ leaves undefined"
            raise HlsError(
                f"{self._debug.function_name(function.name)} never returns, since {why}; the stream {stream} "
                "is not used before",
                loc or self._debug.function_loc(function.name),
            )

    @staticmethod
    def _is_endless(loop: Loop, flow: FlowGraph) -> bool:
        return all(loop.blocks.issuperset(flow.successors[label]) for label in loop.blocks)

    def _process(self, call: _Call) -> tuple[str, tuple[Block, ...], dict[str, LoopInfo]]:
        function = self._module.functions[call.function]
        lowering = FunctionLowering(
            function,
            process=call.name,
            binding=call.binding,
            layout=self._layout,
            debug=self._debug,
            variables=self._variables,
            processes=self._kept,
        )
        blocks = lowering.blocks()
        loops = {}
        if call.function in self._pragmas.pipelined:
            loops[blocks[0].label] = self._pragmas.pipelined[call.function]
        for loop in function.flow().loops:
            number = self._translation.loop_number(function, loop)
            info = (
                self._pragmas.loops[number].info
                if number is not None
                else self._unnamed(function, loop.header)
            )
            loops[lowering.labels[loop.header]] = info
        return call.name, blocks, loops

    def _unnamed(self, function: Function, header: str) -> LoopInfo:
        places = (
            self._debug.loc(parse_line(text).attached.get("dbg", "")) for text in function.blocks[header]
        )
        loc = next((place for place in places if place), None)
        return LoopInfo(name=f"loop@{loc.line}" if loc else "loop", ii=0, loc=loc)

    def _apply_pragmas(self, calls: list[_Call]) -> None:
        for mark in self._pragmas.variables:
            base = mark.place.base
            bindings = [call.binding for call in calls if call.function == mark.function] or [{}]
            for binding in bindings:
                bound = binding.get(base.removeprefix("%"))
                start = Pointer(base if base.startswith("@") else f"{mark.function}:{base}")
                start = bound if isinstance(bound, Pointer) else start
                self._variables.mark(start.moved(mark.place.offset, mark.place.terms), mark)
