# SPDX-License-Identifier: Apache-2.0
"""Narrows loop-carried values to the bits that are ever used.

clang computes a 36-bit number in 64 bits of memory, and counts to ten in 32 bits: a variable that lives
across a loop would be a register of that width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from e2hls.ir import Block, Branch, Const, Design, Instr, Operand, Phi, Ref
from e2hls.passes.counters import count_bits

__all__ = ["narrow"]


def narrow(design: Design) -> Design:
    """Shrink each phi to the low bits that something depends on, and drop what nothing depends on."""
    return replace(
        design,
        processes=tuple(replace(each, blocks=_narrowed_phis(each.blocks)) for each in design.processes),
    )


def _narrowed_phis(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    needed = _needed_bits(blocks)
    blocks = _without_dead(blocks, needed)
    counted = count_bits(blocks)
    narrow = {
        phi.result: bits
        for block in blocks
        for phi in block.phis
        if (bits := min(needed[phi.result], counted.get(phi.result, phi.width))) < phi.width
    }
    return tuple(_rewritten(block, blocks, narrow) for block in blocks)


def _needed_bits(blocks: tuple[Block, ...]) -> dict[str, int]:
    definitions: dict[str, Instr | Phi] = {}
    needed: dict[str, int] = {}
    todo: list[tuple[Operand, int]] = []
    for block in blocks:
        definitions |= {phi.result: phi for phi in block.phis}
        for instr in block.instrs:
            if instr.result:
                definitions[instr.result] = instr
            if instr.op in ("store", "stream_write", "stream_read", "stream_empty"):
                todo += [(arg, arg.width) for arg in instr.args]
        if isinstance(block.end, Branch) and block.end.cond is not None:
            todo.append((block.end.cond, 1))
    while todo:
        operand, bits = todo.pop()
        if isinstance(operand, Const) or needed.get(operand.name, 0) >= min(bits, operand.width):
            continue
        needed[operand.name] = bits = min(bits, operand.width)
        definition = definitions.get(operand.name)
        if isinstance(definition, Phi):
            todo += [(value, bits) for value in definition.incoming.values()]
        elif definition is not None:
            todo += _demands(definition, bits)
    return needed


def _demands(instr: Instr, bits: int) -> Iterable[tuple[Operand, int]]:
    """How many low bits of each operand the low ``bits`` of the result depend on."""
    args = instr.args
    if instr.op in ("add", "sub", "mul", "or", "xor", "zext", "trunc", "freeze", "sext"):
        return [(arg, bits) for arg in args]
    if instr.op == "and":
        masks = [arg.value.bit_length() if isinstance(arg, Const) else arg.width for arg in args]
        return [(args[0], min(bits, masks[1])), (args[1], min(bits, masks[0]))]
    if instr.op == "select":
        return [(args[0], 1), (args[1], bits), (args[2], bits)]
    if instr.op == "shl":
        by = args[1].value if isinstance(args[1], Const) else 0
        return [(args[0], max(0, bits - by)), (args[1], args[1].width)]
    if instr.op in ("lshr", "ashr") and isinstance(args[1], Const):
        return [(args[0], min(bits + args[1].value, args[0].width))]
    return [(arg, arg.width) for arg in args]


def _rewritten(block: Block, blocks: tuple[Block, ...], narrow: dict[str, int]) -> Block:
    widened = [
        Instr(
            op="zext",
            width=phi.width,
            result=phi.result,
            args=(Ref(narrow[phi.result], _low(phi)),),
            loc=phi.loc,
        )
        for phi in block.phis
        if phi.result in narrow
    ]
    phis = [_narrowed(phi, narrow) for phi in block.phis]
    cut = [
        Instr(
            op="trunc",
            width=narrow[phi.result],
            result=f"{_low(phi)}_{block.label}",
            args=(value,),
            loc=phi.loc,
        )
        for target in blocks
        for phi in target.phis
        if phi.result in narrow and isinstance(value := phi.incoming.get(block.label), Ref)
    ]
    return replace(block, phis=tuple(phis), instrs=(*widened, *block.instrs, *cut))


def _low(phi: Phi) -> str:
    return f"{phi.result}_low"


def _narrowed(phi: Phi, narrow: dict[str, int]) -> Phi:
    width = narrow.get(phi.result, phi.width)
    if width == phi.width:
        return phi
    incoming = {
        label: Const(width, value.value % (1 << width), undef=value.undef)
        if isinstance(value, Const)
        else Ref(width, f"{_low(phi)}_{label}")
        for label, value in phi.incoming.items()
    }
    return replace(phi, result=_low(phi), width=width, incoming=incoming)


def _without_dead(blocks: tuple[Block, ...], needed: dict[str, int]) -> tuple[Block, ...]:
    """Drop what nothing needs; an access to a stream stays.

    What stays may name a value without needing a bit of it: ``t << 8``, of which 8 bits are needed.
    """

    def arg(operand: Operand) -> Operand:
        unused = isinstance(operand, Ref) and not needed.get(operand.name, 0)
        return Const(operand.width, 0) if unused else operand

    def alive(instr: Instr) -> bool:
        return not instr.result or instr.op.startswith("stream") or needed.get(instr.result, 0) > 0

    return tuple(
        replace(
            block,
            phis=tuple(phi for phi in block.phis if needed.get(phi.result, 0) > 0),
            instrs=tuple(
                replace(instr, args=tuple(map(arg, instr.args))) for instr in block.instrs if alive(instr)
            ),
        )
        for block in blocks
    )
