# SPDX-License-Identifier: Apache-2.0
"""A skid buffer between the first two stages of a pipeline, which cuts the chain of stalls through it.

XLS tells a stage in the cycle of a stall whether it may move on: a full FIFO behind the last stage reaches
the registers of the first one, which are most of a process's state, through a gate of every stage between.
With the buffer the first stage is ready by a register alone. An activation that stage 1 cannot take at once
waits in it, beside the registers before stage 1; latency and throughput are as before.
"""

from __future__ import annotations

import re

__all__ = ["cut_stall_chain"]

_READY = re.compile(r"^  assign stage_outputs_ready_0 = (.*);$", re.M)
_VALID = re.compile(r"^( +)p1_inputs_valid <= (\w+) \? (\w+) : p1_inputs_valid;$", re.M)
_RESET = re.compile(r"^( +)p1_inputs_valid <= 1'h0;$", re.M)
_REGISTER = re.compile(r"^( +)p0_(\w+) <= (\w+) \? (.*) : p0_(\w+);$", re.M)
_WRITTEN = re.compile(r"^ +p0_\w+ <= ", re.M)
_DECLARED = re.compile(r"^  reg (\[\d+:0\] )?p0_(\w+);$", re.M)


def cut_stall_chain(verilog: str) -> str:
    """The same module with the buffer; one of a single stage, or not as XLS writes them, as it is."""
    ready, valid, reset = (list(pattern.finditer(verilog)) for pattern in (_READY, _VALID, _RESET))
    registers = list(_REGISTER.finditer(verilog))
    names = [match[2] for match in _DECLARED.finditer(verilog)]
    as_written = len(ready) == len(valid) == len(reset) == 1 and all(m[2] == m[5] for m in registers)
    if not as_written or len(registers) != len(_WRITTEN.findall(verilog)) or len(names) != len(registers):
        return verilog
    verilog = _DECLARED.sub(lambda m: f"{m[0]}\n  reg {m[1] or ''}skid0_{m[2]};", verilog)
    verilog = _READY.sub(
        lambda m: (
            "  reg skid0_waits;\n  wire stage_1_fed;\n  wire stage_1_takes;\n"
            "  assign stage_outputs_ready_0 = ~skid0_waits;\n"
            f"  assign stage_1_takes = {m[1]};\n"
            f"  assign stage_1_fed = skid0_waits | {valid[0][3]};"
        ),
        verilog,
    )
    verilog = _REGISTER.sub(
        lambda m: (
            f"{m[1]}p0_{m[2]} <= stage_1_takes ? skid0_waits ? skid0_{m[2]} : {m[4]} : p0_{m[2]};\n"
            f"{m[1]}skid0_{m[2]} <= stage_outputs_ready_0 ? {m[4]} : skid0_{m[2]};"
        ),
        verilog,
    )
    verilog = _RESET.sub(lambda m: f"{m[0]}\n{m[1]}skid0_waits <= 1'h0;", verilog)
    return _VALID.sub(
        lambda m: (
            f"{m[1]}p1_inputs_valid <= stage_1_takes ? stage_1_fed : p1_inputs_valid;\n"
            f"{m[1]}skid0_waits <= stage_1_fed & ~stage_1_takes;"
        ),
        verilog,
    )
