# SPDX-License-Identifier: Apache-2.0
"""Runs a design as it is written, one process after the other: what the IR means."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from e2hls.ir.design import Array, Block, Branch, Const, Design, Instr, Operand, Process, Return

__all__ = ["StarvedError", "run_design"]

_Value = int
_State = dict[str, _Value]


class StarvedError(Exception):
    """A read from an empty stream."""


def run_design(design: Design, inputs: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Start every process again and again, in order, until one of them starves."""
    queues = {
        stream.name: deque(inputs.get(stream.name, [0] * stream.initial))
        for stream in (*design.inputs, *design.outputs, *design.streams)
    }
    shared = {array.name: _initial(array) for array in design.shared}
    for process in design.processes:
        shared |= {array.name: _initial(array) for array in process.arrays if array.scope == "shared"}
    arrays = [
        {array.name: _initial(array) for array in process.arrays} | shared for process in design.processes
    ]
    try:
        while any(queues[stream.name] for stream in design.inputs):
            for process, its_arrays in zip(design.processes, arrays, strict=True):
                _run(process, queues, its_arrays)
    except StarvedError:
        pass
    return {stream.name: list(queues[stream.name]) for stream in design.outputs}


def _initial(array: Array) -> dict[tuple[int, ...], int]:
    contents = {}
    for flat, value in enumerate(array.init):
        index: list[int] = []
        rest = flat
        for dim in reversed(array.dims):
            index.insert(0, rest % dim)
            rest //= dim
        contents[tuple(index)] = value
    return contents


def _run(
    process: Process, queues: dict[str, deque[int]], arrays: dict[str, dict[tuple[int, ...], int]]
) -> None:
    blocks = {block.label: block for block in process.blocks}
    state: _State = {}
    block, previous = process.blocks[0], ""
    while True:
        state |= {phi.result: _value(phi.incoming[previous], state) for phi in block.phis}
        for instr in block.instrs:
            _execute(instr, state, queues, arrays)
        if isinstance(block.end, Return):
            return
        block, previous = blocks[_target(block, state)], block.label


def _target(block: Block, state: _State) -> str:
    assert isinstance(block.end, Branch)
    return block.end.then if block.end.cond is None or _value(block.end.cond, state) else block.end.other


def _value(operand: Operand, state: _State) -> int:
    return operand.value if isinstance(operand, Const) else state[operand.name]


def _signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) else value


def _execute(
    instr: Instr, state: _State, queues: dict[str, deque[int]], arrays: dict[str, dict[tuple[int, ...], int]]
) -> None:
    args = [_value(arg, state) for arg in instr.args]
    if instr.op == "store":
        arrays[instr.target][tuple(args[:-1])] = args[-1]
    elif instr.op == "stream_write":
        queues[instr.target].append(args[0])
    elif instr.op == "load":
        state[instr.result] = arrays[instr.target].get(tuple(args), 0)
    elif instr.op == "stream_read":
        if not queues[instr.target]:
            raise StarvedError(instr.target)
        state[instr.result] = queues[instr.target].popleft()
    elif instr.op == "stream_empty":
        state[instr.result] = int(not queues[instr.target])
    elif instr.op == "stream_full":
        state[instr.result] = 0
    else:
        widths = [arg.width for arg in instr.args]
        state[instr.result] = _compute(instr, args, widths) % (1 << instr.width)


def _quotient(a: int, b: int) -> int:
    magnitude = abs(a) // abs(b) if b else 0
    return -magnitude if (a < 0) != (b < 0) else magnitude


_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def _compute(instr: Instr, args: list[int], widths: list[int]) -> int:
    op, width = instr.op, widths[0]
    signed = [_signed(arg, each) for arg, each in zip(args, widths, strict=True)]
    if op == "icmp":
        key = instr.predicate if instr.predicate in _COMPARE else instr.predicate[1:]
        a, b = signed if instr.predicate.startswith("s") else args
        return int(_COMPARE[key](a, b))
    if op in ("shl", "lshr", "ashr"):
        by = min(args[1], width)
        return {"shl": args[0] << by, "lshr": args[0] >> by, "ashr": signed[0] >> by}[op]
    if op == "select":
        return args[1] if args[0] else args[2]
    if op in ("zext", "trunc", "freeze"):
        return args[0]
    if op == "sext":
        return signed[0]
    a, b = args
    sa, sb = signed
    results: dict[str, Callable[[], int]] = {
        "add": lambda: a + b,
        "sub": lambda: a - b,
        "mul": lambda: a * b,
        "and": lambda: a & b,
        "or": lambda: a | b,
        "xor": lambda: a ^ b,
        "udiv": lambda: a // b if b else 0,
        "urem": lambda: a % b if b else 0,
        "sdiv": lambda: _quotient(sa, sb),
        "srem": lambda: sa - sb * _quotient(sa, sb),
        "smin": lambda: min(sa, sb),
        "smax": lambda: max(sa, sb),
        "umin": lambda: min(a, b),
        "umax": lambda: max(a, b),
    }
    return results[op]()
