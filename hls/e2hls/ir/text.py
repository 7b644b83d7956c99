# SPDX-License-Identifier: Apache-2.0
"""A design as text, for people."""

from __future__ import annotations

from collections.abc import Iterator

from e2hls.ir.design import Array, Block, Branch, Const, Design, Instr, Operand, Phi, Process, Stream

__all__ = ["design_text", "process_text"]


def design_text(design: Design) -> str:
    """All of a design."""
    lines = [f"design {design.name}"]
    for kind, streams in (("input", design.inputs), ("output", design.outputs), ("stream", design.streams)):
        lines += [f"{kind} {_stream(stream)}" for stream in streams]
    lines += [_array(array) for array in design.shared]
    return "\n\n".join(["\n".join(lines), *map(process_text, design.processes)]) + "\n"


def process_text(process: Process) -> str:
    """One process, block by block."""
    lines = [f"process {process.name} {{", *(f"  {_array(array)}" for array in process.arrays)]
    for block in process.blocks:
        lines += _block(block, process)
    return "\n".join([*lines, "}"])


def _stream(stream: Stream) -> str:
    facts = [f"{stream.name}: {stream.width} bits", f"depth {stream.depth}"]
    facts += ["axis"] if stream.axis else []
    facts += [f"t{side} {width}" for side, width in stream.sides]
    facts += [f"initially {stream.initial} words"] if stream.initial else []
    facts += [f"guards {' '.join(stream.guards)}"] if stream.guards else []
    return ", ".join(facts)


def _array(array: Array) -> str:
    dims = "".join(
        f"[{size}{' partitioned' if split else ''}]"
        for size, split in zip(array.dims, array.partitioned, strict=True)
    )
    init = f" = {{{', '.join(map(hex, array.init))}}}" if array.init else ""
    return f"{array.scope} array {array.name}{dims}: {array.width} bits{init}"


def _block(block: Block, process: Process) -> Iterator[str]:
    loop = process.loops.get(block.label)
    notes = [f"loop {loop.name}, II={loop.ii}"] if loop else []
    notes += ["starts an activation"] if block.label in process.steps else []
    yield f"{block.label}:{'  // ' + '; '.join(notes) if notes else ''}"
    yield from (f"  {_phi(phi)}" for phi in block.phis)
    yield from (f"  {_instr(instr)}" for instr in block.instrs)
    end = block.end
    if not isinstance(end, Branch):
        yield "  return"
    elif end.cond is None:
        yield f"  goto {end.then}"
    else:
        yield f"  if {_operand(end.cond)} goto {end.then} else {end.other}"


def _phi(phi: Phi) -> str:
    incoming = ", ".join(f"{label}: {_operand(value)}" for label, value in phi.incoming.items())
    return f"{phi.result}: {phi.width} = phi {incoming}"


def _instr(instr: Instr) -> str:
    words = [instr.op, instr.predicate, instr.target, ", ".join(map(_operand, instr.args))]
    made = f"{instr.result}: {instr.width} = " if instr.result else ""
    place = f"  // {instr.loc}" if instr.loc else ""
    return f"{made}{' '.join(word for word in words if word)}{place}"


def _operand(operand: Operand) -> str:
    if isinstance(operand, Const):
        return f"{operand.width}'{'undef' if operand.undef else hex(operand.value)}"
    return operand.name
