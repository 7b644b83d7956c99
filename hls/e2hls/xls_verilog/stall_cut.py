# SPDX-License-Identifier: Apache-2.0
"""Skid buffers between stages of a pipeline, which cut the chain of stalls through it.

XLS tells a stage in the cycle of a stall whether it may move on: a full FIFO behind the last stage reaches
the registers of the first one, which are most of a process's state, through a gate of every stage between.
With a buffer behind it a stage is ready by a register alone. An activation that the next stage cannot take at
once waits in it, beside the registers between the two; latency and throughput are as before. The first stage
has one, and from the last one on every third: a stall passes at most three stages in a cycle. Whether a
buffer is free is kept in a register of its own: the other one selects in front of all registers of its stage.
"""

from __future__ import annotations

import re

__all__ = ["cut_stall_chain"]

_LONGEST_CHAIN = 3  # stages
_ALIAS = re.compile(r"^  assign (\w+) = (\w+)(?:\[[\d:]+\])?;$", re.M)
_PRODUCT = re.compile(r"^  assign (\w+) = [su]mul\w+\(", re.M)


def cut_stall_chain(verilog: str) -> str:
    """The same module with the buffers; one of a single stage, or not as XLS writes them, as it is."""
    numbers = re.findall(r"^ +p(\d+)_inputs_valid <= ", verilog, re.M)
    last = max(map(int, numbers), default=0)
    for stage in _places(verilog, last) if last else ():
        verilog = _cut_behind(verilog, stage)
    return verilog


def _places(verilog: str, last: int) -> list[int]:
    """The stages behind which buffers go, first one first.

    A register that takes the word of a memory or a product keeps its place in the block RAM or the DSP slice:
    a buffer beside it would take it out of there, so one goes a stage further back.
    """
    aliases = _ALIAS.findall(verilog)
    kept = {name for name, of in aliases if of.endswith("_rresp_tdata")} | set(_PRODUCT.findall(verilog))
    kept |= {name for name, of in aliases if of in kept}
    taken = {
        int(stage)
        for stage, value in re.findall(r"^ +p(\d+)_\w+ <= \w+ \? (\w+) : ", verilog, re.M)
        if value in kept
    }
    places = [0]
    stage = last - _LONGEST_CHAIN
    while stage > 0:
        behind = range(stage, stage + _LONGEST_CHAIN)
        place = next((each for each in behind if each not in taken), stage)
        places.append(place)
        stage = place - _LONGEST_CHAIN
    return sorted(places)


def _cut_behind(verilog: str, stage: int) -> str:
    """The same module with a buffer behind one stage."""
    p, skid, after = f"p{stage}", f"skid{stage}", f"stage_{stage + 1}"
    valid_name = f"p{stage + 1}_inputs_valid"
    ready_line = re.compile(rf"^  assign stage_outputs_ready_{stage} = (.*);$", re.M)
    valid_line = re.compile(rf"^( +){valid_name} <= (\w+) \? (\w+) : {valid_name};$", re.M)
    reset_line = re.compile(rf"^( +){valid_name} <= 1'h0;$", re.M)
    register_line = re.compile(rf"^( +){p}_(?!inputs_valid)(\w+) <= (\w+) \? (.*) : {p}_(\w+);$", re.M)
    written = re.compile(rf"^ +{p}_(?!inputs_valid)\w+ <= ", re.M)
    declared = re.compile(rf"^  reg (\[\d+:0\] )?{p}_(?!inputs_valid)(\w+);$", re.M)

    ready, valid, reset = (list(line.finditer(verilog)) for line in (ready_line, valid_line, reset_line))
    registers, names = list(register_line.finditer(verilog)), declared.findall(verilog)
    as_written = len(ready) == len(valid) == len(reset) == 1 and all(m[2] == m[5] for m in registers)
    if not as_written or not len(registers) == len(written.findall(verilog)) == len(names):
        return verilog
    fed = valid[0][3]
    verilog = declared.sub(lambda m: f"{m[0]}\n  reg {m[1] or ''}{skid}_{m[2]};", verilog)
    verilog = ready_line.sub(
        lambda m: (
            f"  reg {skid}_ready;\n  reg {skid}_waits;\n  wire {skid}_loads;\n"
            f"  wire {after}_fed;\n  wire {after}_takes;\n"
            f"  assign stage_outputs_ready_{stage} = {skid}_ready;\n"
            f"  assign {skid}_loads = ~{skid}_waits;\n"
            f"  assign {after}_takes = {m[1]};\n"
            f"  assign {after}_fed = {skid}_waits | {fed};"
        ),
        verilog,
    )
    verilog = register_line.sub(
        lambda m: (
            f"{m[1]}{p}_{m[2]} <= {after}_takes ? {skid}_waits ? {skid}_{m[2]} : {m[4]} : {p}_{m[2]};\n"
            f"{m[1]}{skid}_{m[2]} <= {skid}_loads ? {m[4]} : {skid}_{m[2]};"
        ),
        verilog,
    )
    verilog = reset_line.sub(
        lambda m: f"{m[0]}\n{m[1]}{skid}_ready <= 1'h1;\n{m[1]}{skid}_waits <= 1'h0;", verilog
    )
    return valid_line.sub(
        lambda m: (
            f"{m[1]}{valid_name} <= {after}_takes ? {after}_fed : {valid_name};\n"
            f"{m[1]}{skid}_ready <= ~{after}_fed | {after}_takes;\n"
            f"{m[1]}{skid}_waits <= {after}_fed & ~{after}_takes;"
        ),
        verilog,
    )
