# SPDX-License-Identifier: Apache-2.0
"""Say in the words of the C++ source why hardware cannot be scheduled."""

from __future__ import annotations

from e2hls.codegen import ThroughputError
from e2hls.emit import ProcessEmitter
from e2hls.errors import HlsError
from e2hls.ir import Const, Instr, Loc, Process
from e2hls.xls_text import CycleError

__all__ = ["blame_cycle", "blame_throughput"]


def blame_cycle(process: Process, emitter: ProcessEmitter, error: CycleError) -> HlsError:
    """The error for accesses of one iteration that need each other."""
    names = [name for name in dict.fromkeys(_sources(emitter, error.names))]
    for name in names:
        array = next((array for array in process.arrays if array.name == name), None)
        if array and len(names) == 1:
            return HlsError(
                f"array {name} is written with what the same iteration read from it, so the next one would "
                "read too early; keep the value in a variable, or add `#pragma HLS DEPENDENCE "
                f"variable={name} type=inter dependent=false` if no iteration reads what the last few wrote",
                array.loc,
            )
    listed = " and ".join(names) or process.name
    return HlsError(
        f"process {process.name} accesses {listed} in both orders, each needing the other's data; "
        "access them in one order everywhere",
        _loc(process),
    )


def blame_throughput(process: Process, emitter: ProcessEmitter, ii: int, error: ThroughputError) -> HlsError:
    """The error for an initiation interval that XLS cannot reach."""
    for state, memory in emitter.text.late_states():
        loops = [loop for label, loop in process.loops.items() if emitter.owns(label, state)]
        loop = loops[0] if loops else next(iter(process.loops.values()), None)
        what = "its exit or the next loop" if state == "pc" else f"the value {emitter.source_name(state)}"
        where = loop.name if loop else f"process {process.name}"
        return HlsError(
            f"{where} cannot start an iteration every {ii} cycle(s): {what} depends on {memory}, which is "
            "read at an address or under a condition that depends on it; ask for "
            f"`#pragma HLS PIPELINE II={ii + 1}`",
            loop.loc if loop else _loc(process),
        )
    slow = _slowest(process)
    if slow is not None and "clock period" in str(error):
        what = "multiplication" if slow.op == "mul" else "division"
        return HlsError(
            f"a {slow.width}-bit {what} takes one cycle, and would make it far too long; use fewer bits"
            + (", or shift to divide by a power of two" if what == "division" else ""),
            slow.loc,
        )
    return HlsError(f"process {process.name} cannot be scheduled at II={ii}: {error}", _loc(process))


def _slowest(process: Process) -> Instr | None:
    """The widest division by what is no constant; without any, the widest multiplication."""
    instrs = [instr for block in process.blocks for instr in block.instrs]
    for ops in (("sdiv", "udiv", "srem", "urem"), ("mul",)):
        found = [i for i in instrs if i.op in ops and not isinstance(i.args[1], Const)]
        if found:
            return max(found, key=lambda instr: instr.width)
    return None


def _sources(emitter: ProcessEmitter, names: tuple[str, ...]) -> list[str]:
    """Arrays and streams whose responses lie on the cycle."""
    found = []
    for name in names:
        if name.endswith("_data_pair"):
            bank = name[: -len("_data_pair")]
            array = next((ram.array for ram in emitter.memories.rams if ram.name == bank), bank)
            found.append(array)
    return found


def _loc(process: Process) -> Loc | None:
    locs = [loop.loc for loop in process.loops.values() if loop.loc]
    return locs[0] if locs else None
