# SPDX-License-Identifier: Apache-2.0
"""The passes that turn a kernel's C++ into SystemVerilog, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2hls.backend.rtl import Rtl, add_top, schedule_all, split_register_blocks, write
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlDesign, RtlOptions
from e2hls.frontend import llvm_passes
from e2hls.frontend import translation as llvm
from e2hls.frontend.lower import lower as lower_module
from e2hls.ir import Design
from e2hls.ir.text import design_text
from e2hls.ir.verifier import IrError, verify
from e2hls.passes.narrow import narrow
from e2hls.passes.own_streams import own_streams
from e2hls.passes.partition import partition
from e2hls.passes.ping_pong import ping_pong
from e2hls.passes.shared_scalars import shared_scalars
from e2hls.passes.side_channels import side_channels

__all__ = ["PASSES", "Pass", "Watch", "generate", "lower"]


@dataclass(frozen=True, slots=True)
class Pass:
    """A step of the flow: what it does in one line, and the function that does it."""

    name: str
    does: str
    run: Callable[..., Any]


_POINTERS = Pass(
    "pointers", "An access to one of several variables becomes an access to each of them.", llvm.pointers
)
# C++ to LLVM IR, and passes over that.
_CLANG = Pass("clang", "clang compiles the C++, with markers for pragmas, without optimising.", llvm.start)
_LLVM_PASSES = (
    Pass(
        "prepare",
        "Struct copies become copies of fields; stream words are passed by value.",
        llvm.prepare_module,
    ),
    Pass("inline", "LLVM inlines every function but the top and the processes.", llvm.inline),
    Pass(
        "variables",
        "Names, types and places of variables are read from debug records.",
        llvm.declare_variables,
    ),
    _POINTERS,
    Pass("fold-indices", "Checks of bit indices that are known to hold are removed.", llvm.fold_indices),
    Pass(
        "pragmas", "Markers of pragmas become loop metadata and properties of variables.", llvm.read_pragmas
    ),
    Pass("hide-indices", "LLVM is kept from adding up the indices of several dimensions.", llvm.hide_indices),
    Pass("simplify", "LLVM folds constants and turns small branches into selects.", llvm.simplify),
    _POINTERS,
    Pass("unroll", "LLVM unrolls what must be unrolled; a variable trip count is an error.", llvm.unroll),
    Pass(
        "check-indices",
        "A constant bit index out of range is an error; the other checks are removed.",
        llvm.check_indices,
    ),
    _POINTERS,
    Pass(
        "memory-intrinsics",
        "Setting or copying a whole array becomes a loop over its elements.",
        llvm.memory_intrinsics,
    ),
    Pass("streams", "An access to one of several streams becomes an access to each of them.", llvm.streams),
    Pass("optimise", "LLVM folds what has become constant, and lowers switches.", llvm.optimise),
    Pass(
        "bind-variables",
        "The variables that are left get their types and initial values.",
        llvm.bind_variables,
    ),
)
# LLVM IR to the IR, and passes over that.
_LOWER = Pass("lower", "Each process becomes blocks of typed operations on streams and arrays.", lower_module)
_IR_PASSES = (
    Pass("partition", "Dimensions partitioned in part become a memory and a place in it.", partition),
    Pass("narrow", "Loop-carried values shrink to the bits in use.", narrow),
    Pass("side-channels", "Stream words are joined with the side channels in use.", side_channels),
    Pass("own-streams", "A stream with both ends in one process gets one that hands it on.", own_streams),
    Pass("shared-scalars", "A scalar for several processes is sent to each by a stream.", shared_scalars),
)
# The IR to modules.
_PING_PONG = Pass(
    "ping-pong", "An array between two processes becomes two halves, handed over by tokens.", ping_pong
)
_SCHEDULE = Pass(
    "schedule",
    "Port conflicts are cut and XLS pipelines each process, in the fewest cycles that it can.",
    schedule_all,
)
_RTL_PASSES = (
    Pass("registers", "The clocked block of each module is split by enable.", split_register_blocks),
    Pass("top", "A top module joins processes, FIFOs and memories.", add_top),
)
PASSES = (_CLANG, *_LLVM_PASSES, _LOWER, *_IR_PASSES, _PING_PONG, _SCHEDULE, *_RTL_PASSES)


@dataclass(slots=True, kw_only=True)
class Watch:
    """Looks at what each pass has made. The IR is verified in any case, LLVM IR where LLVM reads it."""

    verify_llvm: bool = False  # after every pass
    dump: Path | None = None  # a folder for one numbered file per pass
    _done: int = 0

    def after(self, done: Pass, state: llvm.Translation | Design | Rtl) -> None:
        """Verify and dump.

        Raises: HlsError where a pass broke the rules of its IR, or the folder cannot be written.
        """
        self._done += 1
        try:
            if not isinstance(state, llvm.Translation):
                verify(state if isinstance(state, Design) else state.design)
            elif self.verify_llvm:
                llvm_passes.verify(str(state.module))
        except (IrError, HlsError) as error:
            raise HlsError(f"pass {done.name} left a broken design, please report it: {error}") from None
        if self.dump is not None:
            self._write(self.dump, done.name, *_text(done, state))

    def _write(self, folder: Path, name: str, suffix: str, text: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self._done:02}-{name}.{suffix}").write_text(text, encoding="utf-8")
        except OSError as error:
            raise HlsError(f"cannot write {folder}: {error.strerror}; give another folder") from None


def lower(kernel: Kernel, watch: Watch | None = None) -> Design:
    """The hardware design that a kernel describes.

    Raises: HlsError for whatever this flow does not take, with its place in the source.
    """
    watch = watch or Watch()
    translation = _CLANG.run(kernel)
    watch.after(_CLANG, translation)
    for each in _LLVM_PASSES:
        each.run(translation)
        watch.after(each, translation)
    design: Design = _LOWER.run(translation)
    watch.after(_LOWER, design)
    for each in _IR_PASSES:
        design = each.run(design)
        watch.after(each, design)
    return design


def generate(design: Design, options: RtlOptions, directory: Path, watch: Watch | None = None) -> RtlDesign:
    """Write the RTL of ``design`` and its report into ``directory``.

    Raises: HlsError where the design needs more ports or a shorter recurrence than hardware has.
    """
    watch = watch or Watch()
    design = _PING_PONG.run(design)
    watch.after(_PING_PONG, design)
    rtl: Rtl = _SCHEDULE.run(design, options)
    watch.after(_SCHEDULE, rtl)
    for each in _RTL_PASSES:
        rtl = each.run(rtl)
        watch.after(each, rtl)
    return write(rtl, directory)


def _text(done: Pass, state: llvm.Translation | Design | Rtl) -> tuple[str, str]:
    """A suffix that tells what it is, and the text."""
    if isinstance(state, llvm.Translation):
        return "ll", str(state.module)
    if isinstance(state, Design):
        return "ir", design_text(state)
    if done is _SCHEDULE:
        return "ir", "\n".join([design_text(state.design), *(each.xls for each in state.processes)])
    return "sv", state.top or "\n".join(each.sv for each in state.processes)
