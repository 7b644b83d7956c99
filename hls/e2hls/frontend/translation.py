# SPDX-License-Identifier: Apache-2.0
"""A kernel on its way from C++ to the IR, and the passes over its LLVM IR.

LLVM and this package take turns: what LLVM prints is read once, and written once for its next passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from e2hls.base.clang import INCLUDE_DIR
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.frontend import hidden_indices, index_checks, llvm_passes, prepare
from e2hls.frontend.compile import compile_source
from e2hls.frontend.debug_info import DebugInfo
from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import Function, Module, parse_line, parse_module
from e2hls.frontend.memory_intrinsics import expand_fills
from e2hls.frontend.phi_loads import load_before_phis
from e2hls.frontend.pointer_selects import resolve_choices
from e2hls.frontend.pragma_metadata import Marks, loop_number, read_marks
from e2hls.frontend.stream_selects import resolve_streams
from e2hls.frontend.translation_unit import TranslationUnit
from e2hls.frontend.variables import Variables
from e2hls.ir.flow_graph import Loop

__all__ = [
    "Translation",
    "bind_variables",
    "check_indices",
    "declare_variables",
    "fold_indices",
    "hide_indices",
    "inline",
    "memory_intrinsics",
    "optimise",
    "pointers",
    "prepare_module",
    "read_pragmas",
    "simplify",
    "start",
    "streams",
    "unroll",
]


@dataclass(slots=True, kw_only=True)
class Translation:
    """The one module of LLVM IR that the passes work on, and what they have found out."""

    kernel: Kernel
    unit: TranslationUnit
    module: Module
    debug: DebugInfo
    variables: Variables
    kept: tuple[str, ...] = ()  # the functions that are not inlined: the top and the processes
    pragmas: Marks = field(default_factory=Marks)

    @property
    def layout(self) -> Layout:
        """Sizes of the module's types."""
        return Layout(self.module.others)

    def functions(self) -> list[Function]:
        """Those that are not inlined."""
        return [self.module.functions[name] for name in self.kept]

    def loop_number(self, function: Function, loop: Loop) -> int | None:
        """The number under which the pragmas know a loop; None for one that a pass has made."""
        for latch in loop.latches:
            node = parse_line(function.blocks[latch][-1]).attached.get("llvm.loop")
            number = loop_number(self.module.metadata, node) if node else None
            if number is not None:
                return number
        return None

    def run_llvm(self, passes: Callable[[str], str]) -> None:
        """Have LLVM work on the module, which may renumber its metadata."""
        self.module = parse_module(passes(str(self.module)))
        self.debug.metadata = self.module.metadata


def start(kernel: Kernel) -> Translation:
    """Compile a kernel to LLVM IR, without any pass.

    Raises: HlsError for what clang rejects.
    """
    unit, text = compile_source(kernel)
    module = parse_module(llvm_passes.strip_target(text))
    debug = DebugInfo(module.metadata, own_headers=INCLUDE_DIR, files=unit.files)
    return Translation(kernel=kernel, unit=unit, module=module, debug=debug, variables=Variables(debug))


def prepare_module(translation: Translation) -> None:
    """Copy structs field by field, pass the words of streams by value, mark what is inlined."""
    translation.kept = prepare.prepare(
        translation.module, translation.kernel.name, translation.debug, translation.unit
    )
    index_checks.declare_checks(translation.module)


def inline(translation: Translation) -> None:
    """Inline all but the processes.

    Raises: HlsError for what uses a heap.
    """
    translation.run_llvm(llvm_passes.inline_all)
    for function in translation.functions():
        prepare.reject_heap(function, translation.debug)


def declare_variables(translation: Translation) -> None:
    """Note what the source says of its variables; take the debug records out."""
    translation.variables.declare(translation.module, translation.kept)


def pointers(translation: Translation) -> None:
    """Turn accesses through one of several pointers into accesses to each of the variables."""
    for function in translation.functions():
        resolve_choices(function)


def fold_indices(translation: Translation) -> None:
    """Take out the checks of bit indices that are constant and right."""
    for function in translation.functions():
        index_checks.fold_checks(function)


def hide_indices(translation: Translation) -> None:
    """Keep LLVM from adding up the indices of several dimensions."""
    bind_variables(translation)
    hidden_indices.hide_indices(
        translation.module, translation.functions(), translation.layout, translation.variables.type_of
    )


def read_pragmas(translation: Translation) -> None:
    """Take the markers of pragmas out; write what they say of loops into loop metadata."""
    translation.pragmas = read_marks(
        translation.module, translation.kept, translation.debug, translation.unit
    )


def simplify(translation: Translation) -> None:
    """Fold what is constant."""
    translation.run_llvm(llvm_passes.simplify)


def unroll(translation: Translation) -> None:
    """Unroll the loops that must disappear.

    Raises: HlsError for one that runs a number of times that is not constant.
    """
    translation.run_llvm(llvm_passes.unroll)
    while any([hidden_indices.fold_indices(function) for function in translation.functions()]):
        translation.run_llvm(llvm_passes.unroll)
    for function in translation.functions():
        for loop in function.flow().loops:
            number = translation.loop_number(function, loop)
            if number is not None and translation.pragmas.loops[number].must_unroll:
                info = translation.pragmas.loops[number].info
                raise HlsError(
                    f"{info.name} must be unrolled (pragma UNROLL, or a PIPELINE around it), "
                    "but how often it runs is not constant",
                    info.loc,
                )


def check_indices(translation: Translation) -> None:
    """Take out the other checks of bit indices.

    Raises: HlsError for a constant outside of its number.
    """
    for function in translation.functions():
        index_checks.require_indices(function, translation.debug)


def memory_intrinsics(translation: Translation) -> None:
    """Turn setting and copying of whole arrays into loops over their elements."""
    bind_variables(translation)
    for function in translation.functions():
        expand_fills(function, partial(translation.variables.shape, function.name))


def streams(translation: Translation) -> None:
    """Turn an access to a stream of an array, chosen by a variable, into accesses to each of them."""
    for function in translation.functions():
        counts = translation.variables.stream_counts(translation.module, translation.kept[0], function.name)
        resolve_streams(function, counts, translation.layout)


def optimise(translation: Translation) -> None:
    """Clean up for the lowering."""
    translation.run_llvm(llvm_passes.optimise)
    for function in translation.functions():
        load_before_phis(function)


def bind_variables(translation: Translation) -> None:
    """Note the types and initial values that the module gives its variables."""
    translation.variables.bind(translation.module, translation.kept, translation.layout)
