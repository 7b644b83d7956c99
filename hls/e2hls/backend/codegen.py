# SPDX-License-Identifier: Apache-2.0
"""XLS at work: schedule a proc and turn it into Verilog.

Code generation optimises by itself; XLS's optimiser before it makes no better hardware, and takes a minute
where values are ten thousand bits wide.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from e2hls.base.rtl_design import RtlOptions

__all__ = ["Compiled", "ThroughputError", "compile_proc"]

# XLS's sky130 delays stand in for an FPGA's: a 7-series path takes about three times as long, nets included.
_DELAY_MODEL = "sky130"
_FPGA_FACTOR = 0.3
_RELAX = 1.25
_MOST_RELAXED = 16.0
_TOO_FAST = re.compile("clock period|cannot achieve (?:full|the specified) throughput")
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
    """A proc as a module, with XLS's assertions (``sv``) and without (``verilog``)."""

    sv: str
    verilog: str
    pipeline_stages: int
    period_ps: int


def compile_proc(
    ir: str, name: str, *, ii: int, relax: bool, constraints: Sequence[str], options: RtlOptions
) -> Compiled:
    """Compile the proc ``name`` of an XLS package.

    The fewest pipeline stages are taken that keep the period of the delay model; where a recurrence does
    not fit into one period, ``relax`` allows for a longer one.
    Raises: ThroughputError.
    """
    period_ps = options.period_ns * 1000 * _FPGA_FACTOR
    limit_ps = period_ps * (_MOST_RELAXED if relax else 1)
    while True:
        try:
            sv = _codegen(ir, name, int(period_ps), ii, constraints, options, sv=True)
            break
        except RuntimeError as error:
            message = str(error)
            if _TOO_FAST.search(message) and period_ps < limit_ps:
                period_ps *= _RELAX
                continue
            raise ThroughputError(message.split(";")[0]) from None
    verilog = _codegen(ir, name, int(period_ps), ii, constraints, options, sv=False)
    stages = 1 + max((int(number) for number in re.findall(r"\bp(\d+)_", verilog)), default=0)
    return Compiled(sv=sv, verilog=verilog, pipeline_stages=stages, period_ps=int(period_ps))


def _codegen(
    ir: str, name: str, period_ps: int, ii: int, constraints: Sequence[str], options: RtlOptions, *, sv: bool
) -> str:
    import xls

    # Raw text, for the keyword arguments of xls-python drop options that are false.
    flag = "true" if sv else "false"
    codegen = f'{_CODEGEN} module_name: "{name}" use_system_verilog: {flag} add_invariant_assertions: {flag}'
    schedule = f'delay_model: "{_DELAY_MODEL}" clock_period_ps: {period_ps} worst_case_throughput: {ii} '
    if options.pipeline_stages is not None:
        schedule += f"pipeline_stages: {options.pipeline_stages} "
    schedule += " ".join(f'io_constraints: "{constraint}"' for constraint in constraints)
    with _quiet():
        result = xls.Package.parse_ir(ir).schedule_and_codegen(
            codegen_flags_textproto=codegen, scheduling_options_textproto=schedule, with_delay_model=True
        )
    return str(result.get_verilog_text())


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
