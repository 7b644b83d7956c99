# SPDX-License-Identifier: Apache-2.0
"""From a process to a module: port conflicts are cut, XLS text is written, and XLS schedules it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from e2hls.backend.codegen import Compiled, ThroughputError, compile_proc
from e2hls.backend.diagnostics import blame, joint_arrays
from e2hls.backend.emit import ProcessEmitter
from e2hls.backend.memories import Ram, ram_arrays
from e2hls.backend.xls_nodes import CycleError
from e2hls.backend.xls_text import Channel
from e2hls.base.errors import HlsError, ScheduleError
from e2hls.base.rtl_design import ProcessReport, RegionReport, RtlOptions
from e2hls.ir import Design, Process, Stream
from e2hls.passes.port_conflicts import cut_ports
from e2hls.passes.regions import analyse

__all__ = ["ScheduledProcess", "schedule"]

_MOST_CYCLES = 16  # for one iteration of a loop that asks for no interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledProcess:
    """A process with its port conflicts cut, as XLS text, and as the modules that XLS makes of it."""

    process: Process
    xls: str
    sv: str
    verilog: str
    channels: tuple[Channel, ...]
    rams: tuple[Ram, ...]
    report: ProcessReport
    terms: Mapping[str, str]  # what values of the module are in the kernel


def schedule(process: Process, design: Design, options: RtlOptions) -> ScheduledProcess:
    """The process with loop nests run as one loop, or with a region per loop where hardware cannot.

    Raises: ScheduleError where the process needs more ports or a shorter recurrence than hardware has.
    """
    try:
        return _scheduled_somehow(process, design, options)
    except HlsError as error:
        raise ScheduleError(error.message, error.loc) from None


def _scheduled_somehow(process: Process, design: Design, options: RtlOptions) -> ScheduledProcess:
    search = _Search(process, design, options)
    merged, apart = (len(analyse(process, merge=merge).headers) for merge in (True, False))
    try:
        return search.run(merge=True)
    except HlsError as error:
        first = error
    if merged != apart:
        try:
            return search.run(merge=False)
        except HlsError as error:
            first = error
    if all(loop.ii for loop in process.loops.values()):
        raise first
    # Nobody asks for an interval: no access then waits for another of the same memory.
    return search.run(merge=False, single=True)


class _Search:
    """Tries what hardware may need for one process, the best first."""

    def __init__(self, process: Process, design: Design, options: RtlOptions) -> None:
        self._process = process
        self._options = options
        streams = (*design.inputs, *design.outputs, *design.streams)
        self._streams = {stream.name: stream for stream in streams}
        name = "core" if process.name == design.name else process.name
        self._module = f"{design.name}_{name}"
        self._names = frozenset(array.name for each in design.processes for array in each.arrays)

    def run(
        self, *, merge: bool, single: bool = False, forwarded: frozenset[str] = frozenset()
    ) -> ScheduledProcess:
        """Search with loop nests merged or not; recent writes to the arrays ``forwarded`` are forwarded."""
        process = cut_ports(self._process, ram_arrays(self._process), merge=merge, single=single)
        error: HlsError | None = None
        for ii, relax in _attempts(process):
            try:
                return self._attempt(process, ii=ii, relax=relax, merge=merge, forwarded=forwarded)
            except _FailedError as failed:
                if failed.joint:
                    return self.run(merge=merge, single=single, forwarded=failed.joint | forwarded)
                error = failed.error
                if not failed.curable:
                    break
        assert error
        raise error

    def _attempt(
        self, process: Process, *, ii: int, relax: bool, merge: bool, forwarded: frozenset[str]
    ) -> ScheduledProcess:
        depths = dict.fromkeys(forwarded, ii)
        emitter = ProcessEmitter(
            self._module, process, self._streams, merge=merge, forwarded=depths, names=self._names
        )
        emitter.run()
        try:
            compiled = self._compile(emitter, ii=ii, relax=relax, elastic=not forwarded)
        except (CycleError, ThroughputError) as cause:
            raise _FailedError(process, emitter, ii, cause) from None
        return _scheduled(process, emitter, compiled, ii)

    def _compile(self, emitter: ProcessEmitter, *, ii: int, relax: bool, elastic: bool) -> Compiled:
        tokens = _token_constraints(self._process, self._streams, emitter.memories.rams)
        constraints = [*emitter.memories.constraints, *tokens]
        return compile_proc(
            emitter.text,
            ii=ii,
            relax=relax,
            elastic=elastic,
            constraints=constraints,
            options=self._options,
        )


class _FailedError(Exception):
    """An attempt that failed: arrays whose writes may be forwarded, and what else the user is to know."""

    def __init__(
        self, process: Process, emitter: ProcessEmitter, ii: int, cause: CycleError | ThroughputError
    ) -> None:
        super().__init__()
        self.joint = joint_arrays(emitter, cause)
        self.error = blame(process, emitter, ii, cause)
        self.curable = isinstance(cause, ThroughputError)  # by more cycles or a longer one


def _attempts(process: Process) -> list[tuple[int, bool]]:
    """Cycles per activation, and whether the clock period may be relaxed for them, the best first.

    As few cycles as keep the period, at most what the loops ask for; else throughput counts more. Where no
    loop asks for anything, the period counts more.
    """
    asked = [loop.ii for loop in process.loops.values() if loop.ii]
    most = max(asked, default=_MOST_CYCLES)
    counts = range(1, most + 1)
    return [*((ii, False) for ii in counts if most > 1), *((ii, True) for ii in counts)]


def _token_constraints(process: Process, streams: Mapping[str, Stream], rams: Sequence[Ram]) -> Iterator[str]:
    """Scheduling constraints that keep accesses between the tokens that allow them."""
    ops = {(instr.op, instr.target) for block in process.blocks for instr in block.instrs}
    for full in streams.values():
        if not full.guards or full.initial:
            continue
        free = next(each for each in streams.values() if each.guards == full.guards and each.initial)
        for ram in rams:
            if ram.array not in full.guards:
                continue
            if ("stream_write", full.name) in ops:
                yield f"{free.name}:recv:{ram.name}_wreq:send:0:none"
                yield f"{ram.name}_wreq:send:{full.name}:send:0:none"
            elif ("stream_read", full.name) in ops:
                yield f"{full.name}:recv:{ram.name}_rreq:send:0:none"
                yield f"{ram.name}_rreq:send:{free.name}:send:1:none"


def _scheduled(process: Process, emitter: ProcessEmitter, compiled: Compiled, ii: int) -> ScheduledProcess:
    regions = []
    for header in emitter.flow.headers:
        loop = process.loops.get(header)
        name = "entry" if header == emitter.flow.headers[0] else "step"
        regions.append(RegionReport(name=loop.name if loop else name, ii=ii))
    report = ProcessReport(
        name=process.name,
        module=emitter.text.name,
        ii=ii,
        pipeline_stages=compiled.pipeline_stages,
        period_ps=compiled.period_ps,
        regions=tuple(regions),
        multipliers=len(emitter.text.multipliers),
        state_bits=sum(width for width, _ in emitter.text.states.values()),
    )
    return ScheduledProcess(
        process=process,
        xls=compiled.xls,
        sv=compiled.sv,
        verilog=compiled.verilog,
        channels=tuple(emitter.text.channels),
        rams=tuple(emitter.memories.rams),
        report=report,
        terms=emitter.terms,
    )
