# SPDX-License-Identifier: Apache-2.0
"""The LLVM passes that a kernel goes through, and no others.

Jump threading and unswitching are left out on purpose: they copy what follows a condition, and with it
whole multiplier arrays.
"""

from __future__ import annotations

import re
from functools import cache

import llvmlite.binding as llvm

from e2hls.base.errors import HlsError

__all__ = ["inline_all", "optimise", "simplify", "strip_target", "unroll", "verify"]

_ROUNDS = 3  # of unrolling: an inner trip count may be known only after the outer loop's unrolling


@cache
def _configure() -> llvm.TargetMachine:
    # Full unrolling by pragma stops at a size meant for CPU code; rotation at one for small headers.
    llvm.set_option("e2hls", "-pragma-unroll-threshold=100000000")
    llvm.set_option("e2hls", "-unroll-max-iteration-count-to-analyze=0")
    llvm.set_option("e2hls", "-rotation-max-header-size=1000")
    llvm.initialize_native_target()
    return llvm.Target.from_default_triple().create_target_machine()


def _run(text: str, names: tuple[str, ...]) -> str:
    machine = _configure()
    module = _parsed(text)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    manager = llvm.create_new_module_pass_manager()
    for name in names:
        getattr(manager, f"add_{name}_pass")()
    manager.run(module, builder)
    return str(module)


def _parsed(text: str) -> llvm.ModuleRef:
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise HlsError(f"the compiler made LLVM IR that does not parse: {error}") from None
    return module


def verify(text: str) -> None:
    """Raises: HlsError for what is no LLVM IR."""
    _parsed(text)


def inline_all(text: str) -> str:
    """Inline every function marked so and turn simple variables into values."""
    return _run(text, ("always_inliner", "global_dead_code_eliminate", "sroa"))


def simplify(text: str) -> str:
    """Fold what is constant; small conditional parts become choices of values."""
    return _run(text, ("sroa", "instruction_combine", *_FOLD))


def unroll(text: str) -> str:
    """Unroll the loops marked so and fold what became constant."""
    once = ("loop_simplify", "lcssa", "loop_rotate", "loop_unroll", "sroa", "instruction_combine", *_FOLD)
    return _run(text, once * _ROUNDS)


_FOLD = ("sccp", "simplify_cfg", "aggressive_dce")


def optimise(text: str) -> str:
    """The last clean-up: what comes out is read by the lowering."""
    return _run(text, ("sroa", "instruction_combine", *_FOLD, "instruction_combine", *_FOLD, "lower_switch"))


def strip_target(text: str) -> str:
    """Drop what describes a CPU: its features, and the widths that it likes numbers to be widened to."""
    text = re.sub(r' "(?:target-features|target-cpu|tune-cpu|frame-pointer)"="[^"]*"', "", text)
    return re.sub(r'^(target datalayout = "[^"]*?)-n[\d:]+', r"\1", text, count=1, flags=re.M)
