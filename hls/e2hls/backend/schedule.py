# SPDX-License-Identifier: Apache-2.0
"""From a process to a module: port conflicts are cut, XLS text is written, and XLS schedules it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from e2hls.backend.codegen import Compiled, ThroughputError, compile_proc
from e2hls.backend.diagnostics import blame, joint_arrays
from e2hls.backend.emit import ProcessEmitter
from e2hls.backend.memories import Ram, ram_arrays
from e2hls.backend.xls_nodes import CycleError
from e2hls.backend.xls_text import Channel
from e2hls.base.errors import HlsError, ScheduleError
from e2hls.base.kernel import DONE
from e2hls.base.rtl_design import ProcessReport, RegionReport, RtlOptions
from e2hls.ir import Design, LoopInfo, Process, Stream
from e2hls.passes.intervals import activations, fastest, innermost, is_mixed
from e2hls.passes.port_conflicts import cut_ports
from e2hls.passes.regions import Flow, analyse

__all__ = ["ScheduledProcess", "schedule"]

_MOST_CYCLES = 16  # for one activation where no loop asks for an interval
_MOST_INSTRS = 2000  # of a process for which the smallest possible interval is looked for


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
        cause = error
    least, names = _slower(process, design, options)
    message, advice = cause.message, ""
    if least:
        if isinstance(cause, _SlowError) and names == [cause.name]:
            message = cause.saying(least)  # the plan that was tried last may take more cycles than others
        advice = f"ask for `#pragma HLS PIPELINE II={least}` in {' and '.join(names)}"
        advice = f"{', or' if ';' in message else ';'} {advice}"
    raise ScheduleError(f"{message}{advice}", cause.loc)


def _scheduled_somehow(process: Process, design: Design, options: RtlOptions) -> ScheduledProcess:
    """Raises: HlsError."""
    search = _Search(process, design, options)
    merged, apart = (len(analyse(process, merge=merge).headers) for merge in (True, False))
    plans = [_Plan(merge=True)]
    if merged != apart:
        plans.append(_Plan())
    mixed = is_mixed(process, analyse(process, merge=False))
    if mixed or not all(loop.ii for loop in process.loops.values()):
        # There are loops that may take more cycles: no access of theirs waits for another of the same memory.
        plans.append(_Plan(single=True, early=mixed))
    error: HlsError | None = None
    for relax in (False, True) if mixed else (None,):
        for plan in plans:
            try:
                return search.run(plan, _attempts(process, relax=relax))
            except HlsError as cause:
                error = error if error and plan.early else cause  # cut as the source is, it tells more
    assert error
    raise error


def _slower(process: Process, design: Design, options: RtlOptions) -> tuple[int, list[str]]:
    """The smallest interval with which the process can be built, and the loops that ask for less.

    0 where there is none, or the process is too large to try.
    """
    if sum(len(block.instrs) for block in process.blocks) > _MOST_INSTRS:
        return 0, []
    asked = {header: loop for header, loop in process.loops.items() if loop.ii}

    def works(headers: Iterable[str], ii: int) -> bool:
        """Whether the process can be built where these loops ask for no shorter interval."""
        slow = {header: replace(asked[header], ii=max(ii, asked[header].ii)) for header in headers}
        try:
            _scheduled_somehow(replace(process, loops={**process.loops, **slow}), design, options)
        except HlsError:
            return False
        return True

    for headers in (*((header,) for header in asked), tuple(asked)):
        low = min((asked[header].ii for header in headers), default=_MOST_CYCLES)
        if works(headers, _MOST_CYCLES):
            least = next(ii for ii in range(low + 1, _MOST_CYCLES + 1) if works(headers, ii))
            return least, [asked[header].name for header in headers if asked[header].ii < least]
    return 0, []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How a process is cut into activations, and the arrays whose recent writes are forwarded."""

    merge: bool = False  # loop nests run as one loop
    single: bool = False  # a memory is accessed once in an activation, where loops allow for it
    early: bool = False  # what is computed between two accesses has an activation of its own
    forwarded: frozenset[str] = frozenset()


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

    def run(self, plan: _Plan, attempts: Sequence[tuple[int, bool]]) -> ScheduledProcess:
        """Search with the attempts in their order.

        Raises: HlsError.
        """
        rams = ram_arrays(self._process)
        process = cut_ports(self._process, rams, merge=plan.merge, single=plan.single, early=plan.early)
        error: HlsError | None = None
        too_long = False  # an operation by itself, for the period: more cycles do not help
        for ii, relax in attempts:
            if too_long and not relax:
                continue
            try:
                return self._attempt(process, plan, ii=ii, relax=relax)
            except _FailedError as failed:
                if failed.joint:
                    forwarded = failed.joint | plan.forwarded
                    return self.run(replace(plan, forwarded=forwarded), attempts)
                error = failed.error
                if not failed.curable:
                    break
                too_long = failed.too_long
            except _SlowError as slow:
                error = slow
        assert error
        raise error

    def _attempt(self, process: Process, plan: _Plan, *, ii: int, relax: bool) -> ScheduledProcess:
        try:
            return self._attempt_as(process, plan, ii=ii, relax=relax, one_hot=True)
        except _FailedError as failed:
            if not failed.curable:
                raise
            # Slower to tell apart, but XLS knows that no two of the numbers are equal.
            return self._attempt_as(process, plan, ii=ii, relax=relax, one_hot=False)

    def _attempt_as(
        self, process: Process, plan: _Plan, *, ii: int, relax: bool, one_hot: bool
    ) -> ScheduledProcess:
        depths = dict.fromkeys(plan.forwarded, ii)
        emitter = ProcessEmitter(
            self._module,
            process,
            self._streams,
            merge=plan.merge,
            forwarded=depths,
            names=self._names,
            one_hot=one_hot,
        )
        intervals = _intervals(process, emitter.flow, ii)
        emitter.run()
        try:
            compiled = self._compile(emitter, ii=ii, relax=relax, elastic=not plan.forwarded)
        except (CycleError, ThroughputError) as cause:
            raise _FailedError(process, emitter, ii, cause) from None
        return _scheduled(process, emitter, compiled, ii, intervals)

    def _compile(self, emitter: ProcessEmitter, *, ii: int, relax: bool, elastic: bool) -> Compiled:
        tokens = _token_constraints(self._process, self._streams, emitter.memories.rams)
        constraints = [*emitter.memories.constraints, *tokens, *_done_constraints(self._process)]
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
        self.too_long = "clock period" in str(cause)  # a single operation


class _SlowError(HlsError):
    """An attempt in which a loop takes more cycles than it asks for."""

    def __init__(self, loop: LoopInfo, cycles: int) -> None:
        self.name, self._asked = loop.name, loop.ii
        super().__init__(self.saying(cycles), loop.loc)

    def saying(self, cycles: int) -> str:
        """The message, with the cycles that the loop takes."""
        slow = f"{self.name} cannot start an iteration every {self._asked} cycle(s)"
        return f"{slow}: what it accesses takes {cycles}"


def _attempts(process: Process, *, relax: bool | None) -> list[tuple[int, bool]]:
    """Cycles per activation, and whether the clock period may be relaxed for them, the best first.

    As few cycles as keep the period, at most what the fastest loop asks for; else throughput counts more.
    Where no loop asks for anything, the period counts more. ``relax`` picks some of them, None gives all.
    """
    most = fastest(process) or _MOST_CYCLES
    counts = range(1, most + 1)
    if relax is not None:
        return [(ii, relax) for ii in counts]
    return [*((ii, False) for ii in counts if most > 1), *((ii, True) for ii in counts)]


def _intervals(process: Process, flow: Flow, ii: int) -> dict[str, int]:
    """Cycles for an iteration of each innermost loop, by header, with so many for an activation.

    Raises: _SlowError for a loop that asks for fewer.
    """
    found = {header: count * ii for header, count in activations(process, flow).items()}
    for header, cycles in found.items():
        loop = process.loops.get(header)
        if loop and 0 < loop.ii < cycles:
            raise _SlowError(loop, cycles)
    return found


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


def _done_constraints(process: Process) -> Iterator[str]:
    """Those that let the word of DONE follow all others of its activation, which earlier ones do anyway."""
    ends = {"stream_read": "recv", "stream_write": "send"}
    ops = {(instr.op, instr.target) for block in process.blocks for instr in block.instrs if instr.op in ends}
    if ("stream_write", DONE) in ops:
        yield from (f"{name}:{ends[op]}:{DONE}:send:1:none" for op, name in sorted(ops) if name != DONE)


def _scheduled(
    process: Process, emitter: ProcessEmitter, compiled: Compiled, ii: int, intervals: Mapping[str, int]
) -> ScheduledProcess:
    regions: list[RegionReport] = []
    heads = dict(zip(emitter.flow.headers, emitter.flow.headers, strict=True))
    for header, body in innermost(process, emitter.flow).items():
        # A loop that consists of steps may start with one of them.
        heads[next(first for first in emitter.flow.headers if first in body)] = header
    for header in heads.values():
        loop = process.loops.get(header)
        name = "step" if regions else "entry"
        regions.append(RegionReport(name=loop.name if loop else name, ii=intervals.get(header, ii)))
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
