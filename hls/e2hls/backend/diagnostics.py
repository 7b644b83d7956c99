# SPDX-License-Identifier: Apache-2.0
"""Say in the words of the C++ source why hardware cannot be scheduled."""

from __future__ import annotations

import re
from collections.abc import Iterable

from e2hls.backend.codegen import ThroughputError
from e2hls.backend.emit import ProcessEmitter
from e2hls.backend.xls_nodes import CycleError
from e2hls.base.errors import HlsError, Loc
from e2hls.ir import Const, Instr, LoopInfo, Process
from e2hls.passes.intervals import innermost

__all__ = ["blame", "joint_arrays"]

_CODE = re.compile(r"^[A-Z_]+: (?:\w+: )?")  # that XLS puts in front of what it says


def joint_arrays(emitter: ProcessEmitter, error: CycleError | ThroughputError) -> frozenset[str]:
    """Arrays in the way because their reads and writes share a request channel."""
    if isinstance(error, CycleError):
        return _arrays(emitter, error.names, joint=True)
    return _arrays(emitter, (f"{bank}_data_pair" for _, bank in emitter.text.late_states()), joint=True)


def blame(
    process: Process, emitter: ProcessEmitter, ii: int, error: CycleError | ThroughputError
) -> HlsError:
    """What to change in the source."""
    if isinstance(error, CycleError):
        return _blame_cycle(process, emitter, error)
    return _blame_throughput(process, emitter, ii, error)


def _blame_cycle(process: Process, emitter: ProcessEmitter, error: CycleError) -> HlsError:
    """The error for accesses of one iteration that need each other."""
    names = sorted(_arrays(emitter, error.names))
    if len(names) == 1:
        loc = next(array.loc for array in process.arrays if array.name == names[0])
        return HlsError(
            f"array {names[0]} is read under a condition or at an address that depends on what the same "
            "iteration may have read from it; read it once, before the condition",
            loc,
        )
    listed = " and ".join(names) or process.name
    return HlsError(
        f"process {process.name} accesses {listed} in both orders, each needing the other's data; "
        "access them in one order everywhere",
        _loc(process),
    )


def _blame_throughput(process: Process, emitter: ProcessEmitter, ii: int, error: ThroughputError) -> HlsError:
    """The error for an initiation interval that XLS cannot reach."""
    for state, port in emitter.text.late_states():
        memory = next((ram.name for ram in emitter.memories.rams if port in ram.answers), port)
        loops = [loop for label, loop in process.loops.items() if emitter.owns(label, state)]
        loops += _loops_with(process, emitter, memory)
        loop = loops[0] if loops else next(iter(process.loops.values()), None)
        what = "its exit or the next loop" if state == "pc" else _held(emitter, state)
        where = loop.name if loop else f"process {process.name}"
        return HlsError(
            f"{where} cannot start an iteration every {ii} cycle(s): {what} depends on {memory}, which is "
            "read at an address or under a condition that depends on it",
            loop.loc if loop else _loc(process),
        )
    slow = _slowest(process)
    if slow is not None and "clock period" in str(error):
        return HlsError(
            f"a {slow.width}-bit multiplication takes one cycle, and would make it far too long; "
            "use fewer bits",
            slow.loc,
        )
    for name in emitter.memories.forwarded if "throughput" in str(error) else ():
        array = next(array for array in process.arrays if array.name == name)
        return HlsError(
            f"array {name} is written with what is computed from its own elements, which takes longer than "
            f"{ii} cycle(s); compute less in one iteration",
            array.loc,
        )
    if "throughput" not in str(error):
        said = _CODE.sub("", str(error))
        return HlsError(f"process {process.name} cannot be scheduled at II={ii}: {said}", _loc(process))
    asked = [loop for loop in process.loops.values() if 0 < loop.ii <= ii]
    where = asked[0].name if len(asked) == 1 else f"process {process.name}"
    return HlsError(
        f"{where} cannot start an iteration every {ii} cycle(s): what one hands to the next, in variables or "
        "arrays, takes longer to compute",
        asked[0].loc if asked else _loc(process),
    )


def _loops_with(process: Process, emitter: ProcessEmitter, bank: str) -> list[LoopInfo]:
    """The innermost loops that read the array of a bank."""
    arrays = {ram.array for ram in emitter.memories.rams if ram.name == bank}
    return [
        process.loops[header]
        for header, body in innermost(process, emitter.flow).items()
        if header in process.loops
        if any(
            instr.op == "load" and instr.target in arrays
            for block in process.blocks
            if block.label in body
            for instr in block.instrs
        )
    ]


def _slowest(process: Process) -> Instr | None:
    """The widest multiplication by what is no constant."""
    instrs = (instr for block in process.blocks for instr in block.instrs if instr.op == "mul")
    found = [instr for instr in instrs if not isinstance(instr.args[1], Const)]
    return max(found, key=lambda instr: instr.width, default=None)


def _held(emitter: ProcessEmitter, state: str) -> str:
    """What a state element holds, in words."""
    for ram in emitter.memories.rams:
        if state.startswith(f"{ram.name}_recent"):
            return f"array {ram.array}"
    return f"the value {emitter.source_name(state)}"


def _arrays(emitter: ProcessEmitter, nodes: Iterable[str], *, joint: bool = False) -> frozenset[str]:
    """Arrays whose responses are among the nodes of a process's text; only joint ones where asked for."""
    banks = {
        f"{port}_data_pair": ram.array
        for ram in emitter.memories.rams
        for port in ram.answers or (ram.name,)
        if ram.joint or not joint
    }
    return frozenset(banks[node] for node in nodes if node in banks)


def _loc(process: Process) -> Loc | None:
    locs = [loop.loc for loop in process.loops.values() if loop.loc]
    return locs[0] if locs else None
