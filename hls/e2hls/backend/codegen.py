# SPDX-License-Identifier: Apache-2.0
"""XLS at work: schedule a proc and turn it into Verilog.

Code generation optimises by itself; XLS's optimiser before it makes no better hardware, and takes a minute
where values are ten thousand bits wide.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

from e2hls.backend.foreign import define_products
from e2hls.backend.xls_names import from_xls, to_xls
from e2hls.backend.xls_text import SPARE, ProcText
from e2hls.base.rtl_design import RtlOptions
from e2hls.xls_verilog.repeated_sends import sends_again, without
from e2hls.xls_verilog.stall_cut import cut_stall_chain

__all__ = ["Compiled", "ThroughputError", "compile_proc"]

# XLS's sky130 delays stand in for an FPGA's: a 7-series path takes about 3.3 times as long, typical nets
# included. The factors leave three tenths of the period for long nets and for the handshake between stages.
_DELAY_MODEL = "sky130"
_FPGA_FACTORS = {"xc7": 0.215, "xcup": 0.41}
_RAM_NS = {"xc7": 3.0, "xcup": 1.4}  # clock to output of a block RAM without its output register, and a net
_GROWTH = 1.25
_PRECISION = 1.03  # of a relaxed period
_MOST_RELAXED = 16.0
_TOO_FAST = re.compile("clock period|cannot achieve (?:full|the specified) throughput|given I/O constraints")
# XLS divides a constant by looking quotients up in tables that are as short as its arrays allow: an index
# behind the end is that of the last element, which only the check makes true in Verilog.
_CODEGEN = (
    'generator: GENERATOR_KIND_PIPELINE reset: "rst_n" reset_active_low: true reset_data_path: false '
    "flop_inputs: false flop_outputs: false gate_recvs: false array_index_bounds_checking: true "
    'streaming_channel_data_suffix: "_tdata" streaming_channel_valid_suffix: "_tvalid" '
    'streaming_channel_ready_suffix: "_tready" '
    'gate_format: "assign {output} = {condition} ? {input} : {width}\'h0" '
)


class ThroughputError(Exception):
    """XLS cannot start an activation every ``ii`` cycles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A proc as XLS reads it, and as a module with XLS's assertions (``sv``) and without (``verilog``)."""

    xls: str
    sv: str
    verilog: str
    pipeline_stages: int
    period_ps: int


def compile_proc(
    proc: ProcText,
    *,
    ii: int,
    relax: bool,
    elastic: bool,
    constraints: Sequence[str],
    options: RtlOptions,
) -> Compiled:
    """Compile a proc.

    The fewest pipeline stages are taken that keep the period of the delay model, with the registers of DSP
    slices and block RAMs in use where throughput allows for them; where a recurrence does not fit into one
    period, ``relax`` allows for a longer one. Where two activations may wait between the first two stages,
    because nothing counts on one to a stage, the process is ``elastic``.
    Raises: CycleError, ThroughputError.
    """
    factor = _FPGA_FACTORS[options.family]
    target_ps = int(options.period_ns * 1000 * factor)
    ram_ps = int(_RAM_NS[options.family] * 1000 * factor)
    texts = {registered: proc.text(dsp_products=registered) for registered in (True, False)}

    def scheduled(period_ps: int, registered: bool) -> str:
        # A foreign function as slow as a period has registers before and behind it.
        return _schedule(period_ps, ii, period_ps if registered else ram_ps, constraints, options)

    @cache
    def attempt(period_ps: int, registered: bool, sv: bool) -> str:
        return _codegen(texts[registered], proc.name, scheduled(period_ps, registered), sv=sv)

    def final(period_ps: int, registered: bool, sv: bool) -> str:
        made = attempt(period_ps, registered, sv)
        if not sends_again(made):
            return made
        text = proc.text(dsp_products=registered, spare=True)
        return without(SPARE, _codegen(text, proc.name, scheduled(period_ps, registered), sv=sv))

    levels = (True, False) if "ffi_proto" in texts[True] else (False,)
    try:
        period_ps, registered = _first(attempt, target_ps, levels)
    except ThroughputError as error:
        if not relax or not _TOO_FAST.search(str(error)):
            raise
        shortest_ps = _shortest(lambda period_ps: attempt(period_ps, False, True), target_ps)
        period_ps, registered = _first(attempt, shortest_ps, levels)
    sv, verilog = (final(period_ps, registered, sv) for sv in (True, False))
    if elastic:
        sv, verilog = cut_stall_chain(sv), cut_stall_chain(verilog)
    stages = 1 + max((int(number) for number in re.findall(r"\bp(\d+)_", verilog)), default=0)
    return Compiled(
        xls=texts[registered], sv=sv, verilog=verilog, pipeline_stages=stages, period_ps=period_ps
    )


def _first(
    attempt: Callable[[int, bool, bool], str], period_ps: int, levels: Sequence[bool]
) -> tuple[int, bool]:
    """The period, and the first level of registers that keeps it."""
    for registered in levels[:-1]:
        with suppress(ThroughputError):
            attempt(period_ps, registered, True)
            return period_ps, registered
    attempt(period_ps, levels[-1], True)
    return period_ps, levels[-1]


def _shortest(attempt: Callable[[int], object], failing_ps: int) -> int:
    """A period at which the attempt succeeds, hardly longer than the shortest.

    Raises: ThroughputError where none does.
    """
    limit_ps = failing_ps * _MOST_RELAXED
    passing_ps: int | None = None
    while passing_ps is None or passing_ps > failing_ps * _PRECISION:
        middle = failing_ps * _GROWTH if passing_ps is None else (failing_ps * passing_ps) ** 0.5
        try:
            attempt(int(middle))
            passing_ps = int(middle)
        except ThroughputError:
            failing_ps = int(middle)
            if passing_ps is None and failing_ps >= limit_ps:
                raise
    return passing_ps


def _schedule(
    period_ps: int, ii: int, foreign_ps: int, constraints: Sequence[str], options: RtlOptions
) -> str:
    schedule = (
        f'delay_model: "{_DELAY_MODEL}" clock_period_ps: {period_ps} worst_case_throughput: {ii} '
        f"ffi_fallback_delay_ps: {foreign_ps} "
    )
    if options.pipeline_stages is not None:
        schedule += f"pipeline_stages: {options.pipeline_stages} "
    named = (":".join(map(to_xls, constraint.split(":"))) for constraint in constraints)
    return schedule + " ".join(f'io_constraints: "{constraint}"' for constraint in named)


def _codegen(ir: str, name: str, schedule: str, *, sv: bool) -> str:
    """The proc's Verilog.

    Raises: ThroughputError.
    """
    import xls

    # Raw text, for the keyword arguments of xls-python drop options that are false.
    flag = "true" if sv else "false"
    codegen = f'{_CODEGEN} module_name: "{name}" use_system_verilog: {flag} add_invariant_assertions: {flag}'
    try:
        with _quiet():
            result = xls.Package.parse_ir(ir).schedule_and_codegen(
                codegen_flags_textproto=codegen, scheduling_options_textproto=schedule, with_delay_model=True
            )
    except RuntimeError as error:
        raise ThroughputError(from_xls(str(error).split(";")[0])) from None
    return define_products(from_xls(str(result.get_verilog_text())))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the library logs away from stderr; its errors are exceptions."""
    kept = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
