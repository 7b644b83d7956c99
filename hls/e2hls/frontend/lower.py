# SPDX-License-Identifier: Apache-2.0
"""From a C++ kernel to a design of typed records: clang, a few LLVM passes, and the lowering."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from e2hls.base.clang import INCLUDE_DIR, WARNINGS, run_clang
from e2hls.base.errors import HlsError, Loc
from e2hls.base.kernel import Kernel
from e2hls.frontend import llvm_passes as passes
from e2hls.frontend.connections import check_array, check_stream
from e2hls.frontend.debug_info import DebugInfo
from e2hls.frontend.flow_graph import find_loops
from e2hls.frontend.index_checks import declare_checks, fold_checks, require_indices
from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Function, Module, parse_line, parse_module, split_operands, unquote
from e2hls.frontend.lowering import FunctionLowering
from e2hls.frontend.memory_intrinsics import expand_fills
from e2hls.frontend.pointer_selects import resolve_choices
from e2hls.frontend.pointers import Pointer, gep
from e2hls.frontend.pragma_metadata import loop_number, read_marks
from e2hls.frontend.prepare import prepare
from e2hls.frontend.side_channels import carry_sides, choose_sides
from e2hls.frontend.translation_unit import TranslationUnit, place_markers
from e2hls.frontend.variables import Port, Variables
from e2hls.ir import Block, Const, Design, LoopInfo, Process
from e2hls.passes.narrow import narrow_phis

__all__ = ["lower"]

# Of the targets, AArch64 passes numbers of any width by value: the IR has no traces of a calling convention.
_SYNTHESIS = (
    *(
        "-target",
        "aarch64-linux-gnu",
        "-fsigned-char",
        "-Xclang",
        "-fexperimental-max-bitint-width=65536",
        "-std=c++20",
        "-O1",
    ),
    *("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
)
# As Microsoft's compiler does, and Vitis HLS, expand the macros in a pragma.
_PREPROCESS = ("-E", "-fms-extensions", "-U_MSC_EXTENSIONS")
_EMIT = (
    *WARNINGS,
    "-Wglobal-constructors",  # nothing runs before the first call
    *("-Xclang", "-disable-llvm-passes", "-S", "-emit-llvm"),
    *("-g", "-fstandalone-debug", "-fno-discard-value-names"),
)


def lower(kernel: Kernel) -> Design:
    """The hardware design that a kernel describes.

    Raises: HlsError for whatever this flow does not take, with its place in the source.
    """
    with tempfile.TemporaryDirectory(prefix="e2hls-") as folder:
        unit, module = _compile(kernel, Path(folder))
    return _Frontend(kernel, module, unit).design()


def _compile(kernel: Kernel, folder: Path) -> tuple[TranslationUnit, Module]:
    """The kernel with markers for its pragmas, as text and as LLVM IR."""
    source = kernel.source
    try:
        source.open("rb").close()
    except OSError as error:
        raise HlsError(f"cannot read {source}: {error.strerror}") from None
    preprocessed, output = folder / "kernel.ii", folder / "kernel.ll"
    paths = [f"-I{each}" for each in (*kernel.include_dirs, INCLUDE_DIR)]
    # No build is another's in zig's cache: that takes equal files in two folders for one, and does not see a
    # new header that lies before the one it knows.
    options = (*_SYNTHESIS, f"-DE2HLS_BUILD={folder.name}")
    read = ("-D__SYNTHESIS__", *paths, "-include", str(INCLUDE_DIR / "hls_pragma.h"), str(source))
    run_clang([*options, *_PREPROCESS, *read, "-o", preprocessed])
    unit = place_markers(preprocessed.read_text(errors="surrogateescape"))
    preprocessed.write_text(unit.text, errors="surrogateescape")
    emit = (*options, *_EMIT, "-o", str(output))
    try:
        run_clang([*emit, preprocessed])
    except HlsError as error:
        # What is right in a macro may draw a warning where that is expanded: the source itself decides.
        _compile_alone([*emit, *read])
        if "[-Werror" not in error.message:
            raise unit.explain(error) from None
        run_clang([*emit, "-w", preprocessed])
    return unit, parse_module(passes.strip_target(output.read_text()))


def _compile_alone(arguments: list[str]) -> None:
    """Compile the source as it is, without its pragmas."""
    try:
        run_clang(arguments)
    except HlsError as error:
        if "requires a global " not in error.message:
            raise
        raise HlsError(
            "this variable is initialised by code, but no code runs before the kernel's first call; make "
            "constexpr what initialises it",
            error.loc,
        ) from None


def _without_choices(module: Module, functions: tuple[str, ...]) -> Module:
    for name in functions:
        resolve_choices(module.functions[name])
    return module


@dataclass(frozen=True, slots=True)
class _Call:
    """A process: a function, and what its parameters are bound to."""

    name: str
    function: str
    binding: dict[str, Pointer | Const]


class _Frontend:
    """The stages between clang's output and the design, in order."""

    def __init__(self, kernel: Kernel, module: Module, unit: TranslationUnit) -> None:
        self._kernel = kernel
        own = INCLUDE_DIR
        debug = DebugInfo(module.metadata, own_headers=own, files=unit.files)
        kept = prepare(module, kernel.name, debug)
        declare_checks(module)
        module = parse_module(passes.inline_all(str(module)))
        self._debug = DebugInfo(module.metadata, own_headers=own, files=unit.files)
        self._variables = Variables(self._debug)
        self._variables.declare(module, kept)
        _without_choices(module, kept)
        for name in kept:
            fold_checks(module.functions[name])
        self._marks = read_marks(module, kept, self._debug, unit)
        module = _without_choices(parse_module(passes.simplify(str(module))), kept)
        module = parse_module(passes.unroll(str(module)))
        self._debug = DebugInfo(module.metadata, own_headers=own, files=unit.files)
        self._require_unrolled(module, kept)
        for name in kept:
            require_indices(module.functions[name], self._debug)
        module = self._without_fills(_without_choices(module, kept), kept)
        module = parse_module(passes.optimise(str(module)))
        self._debug = DebugInfo(module.metadata, own_headers=own, files=unit.files)
        self._module, self._kept = module, kept
        self._layout = Layout(module.others)
        self._variables.bind(module, kept, self._layout)

    def _without_fills(self, module: Module, kept: tuple[str, ...]) -> Module:
        self._variables.bind(module, kept, Layout(module.others))
        for name in kept:
            expand_fills(module.functions[name], partial(self._variables.shape, name))
        return module

    def _require_unrolled(self, module: Module, kept: tuple[str, ...]) -> None:
        for name in kept:
            for loop in find_loops(module.functions[name]):
                number = self._loop(module.functions[name], loop.latches, module)
                if number is not None and self._marks.loops[number].must_unroll:
                    info = self._marks.loops[number].info
                    raise HlsError(
                        f"{info.name} must be unrolled (pragma UNROLL, or a PIPELINE around it), "
                        "but how often it runs is not constant",
                        info.loc,
                    )

    def _loop(self, function: Function, latches: tuple[str, ...], module: Module) -> int | None:
        for latch in latches:
            node = parse_line(function.blocks[latch][-1]).attached.get("llvm.loop")
            number = loop_number(module.metadata, node) if node else None
            if number is not None:
                return number
        return None

    def design(self) -> Design:
        """All processes, and the streams and arrays that join them."""
        calls = self._calls()
        lowered = [self._process(call) for call in calls]
        self._apply_marks(calls)
        memories, ports = self._variables.used(), self._variables.ports
        for memory in memories:
            check_array(memory)
        inputs, outputs = self._ports()
        top_ports = {id(port) for port in (*inputs, *outputs)}
        internal = [port for port in ports.values() if id(port) not in top_ports]
        for port in ports.values():
            check_stream(port, internal=id(port) not in top_ports)
        choose_sides(ports.values(), outputs, [blocks for _, blocks, _ in lowered])
        by_name = {port.name: port for port in ports.values()}
        return Design(
            name=self._kernel.name,
            inputs=tuple(port.stream() for port in inputs),
            outputs=tuple(port.stream() for port in outputs),
            processes=tuple(
                Process(
                    name=name,
                    blocks=carry_sides(blocks, by_name),
                    arrays=tuple(each.array() for each in memories if list(each.users) == [name]),
                    loops=loops,
                )
                for name, blocks, loops in lowered
            ),
            streams=tuple(port.stream() for port in internal),
            shared=tuple(each.array() for each in memories if len(each.users) > 1),
        )

    def _calls(self) -> list[_Call]:
        """The processes in the order in which the source calls them."""
        top = self._module.functions[self._kernel.name]
        binding: dict[str, Pointer | Const] = {}
        for kind, name in top.params:
            if kind != "ptr":
                raise HlsError(
                    f"the parameter {name} of {top.name} is no hls::stream&",
                    self._debug.function_loc(top.name),
                )
            binding[name] = Pointer(f"{top.name}:%{name}")
            self._variables.port(f"{top.name}:%{name}", name, self._debug.function_loc(top.name))
        if top.name not in self._marks.dataflow:
            return [_Call(self._debug.function_name(top.name), top.name, binding)]
        nested = sorted(self._marks.dataflow - {top.name})
        if nested:
            raise HlsError(
                "pragma HLS DATAFLOW is taken in one function only", self._debug.function_loc(nested[0])
            )
        return self._dataflow(top)

    def _dataflow(self, top: Function) -> list[_Call]:
        pointers: dict[str, Pointer] = {}
        calls: list[_Call] = []

        def resolve(token: str) -> Pointer:
            if token.startswith("@"):
                return Pointer(f"@{unquote(token[1:])}")
            name = unquote(token.removeprefix("%"))
            return pointers.get(name) or Pointer(f"{top.name}:%{name}")

        for text in top.lines():
            line = parse_line(text)
            loc = self._debug.loc(line.attached.get("dbg", ""))
            call = re.search(r'call void @("[^"]*"|[\w.$-]+)\((.*)\)', line.body)
            callee = unquote(call[1]) if call else ""
            if line.op == "getelementptr":
                pointers[line.result] = gep(line.body, self._layout, resolve)
            elif call and callee in self._kept:
                function = self._module.functions[callee]
                arguments = split_operands(call[2])
                binding = {
                    name: self._argument(argument, resolve, name, callee, loc)
                    for (_, name), argument in zip(function.params, arguments, strict=True)
                }
                calls.append(_Call(self._unique_process(callee, calls), callee, binding))
            elif line.op not in ("alloca", "ret") and not callee.startswith("llvm.lifetime"):
                raise HlsError("a DATAFLOW function may only declare variables and call functions", loc)
        return calls

    def _unique_process(self, function: str, calls: list[_Call]) -> str:
        base = re.sub(r"\W", "_", self._debug.function_name(function))
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
                what = "read and written" if port.readers else "never used"
                raise HlsError(f"the stream {name} is {what}; a port goes one way", port.loc)
            (inputs if port.readers else outputs).append(port)
        return inputs, outputs

    def _process(self, call: _Call) -> tuple[str, tuple[Block, ...], dict[str, LoopInfo]]:
        function = self._module.functions[call.function]
        lowering = FunctionLowering(
            function,
            process=call.name,
            binding=call.binding,
            layout=self._layout,
            debug=self._debug,
            variables=self._variables,
        )
        blocks = narrow_phis(lowering.blocks())
        loops = {}
        if call.function in self._marks.pipelined:
            loops[blocks[0].label] = self._marks.pipelined[call.function]
        for loop in find_loops(function):
            number = self._loop(function, loop.latches, self._module)
            info = (
                self._marks.loops[number].info if number is not None else self._unnamed(function, loop.header)
            )
            loops[lowering.labels[loop.header]] = info
        return call.name, blocks, loops

    def _unnamed(self, function: Function, header: str) -> LoopInfo:
        places = (
            self._debug.loc(parse_line(text).attached.get("dbg", "")) for text in function.blocks[header]
        )
        loc = next((place for place in places if place), None)
        return LoopInfo(name=f"loop@{loc.line}" if loc else "loop", ii=1, loc=loc)

    def _apply_marks(self, calls: list[_Call]) -> None:
        for mark in self._marks.variables:
            base = mark.place.base
            bindings = [call.binding for call in calls if call.function == mark.function] or [{}]
            for binding in bindings:
                bound = binding.get(base.removeprefix("%"))
                start = Pointer(base if base.startswith("@") else f"{mark.function}:{base}")
                start = bound if isinstance(bound, Pointer) else start
                self._variables.mark(start.moved(mark.place.offset, mark.place.terms), mark)
