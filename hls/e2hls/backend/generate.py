# SPDX-License-Identifier: Apache-2.0
"""From a design of processes to Verilog files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2hls.backend.codegen import Compiled, ThroughputError, compile_proc
from e2hls.backend.diagnostics import blame, joint_arrays
from e2hls.backend.emit import ProcessEmitter
from e2hls.backend.memories import Ram, ram_arrays
from e2hls.backend.wrapper import Module, RamUse, top_module
from e2hls.backend.xls_text import CycleError
from e2hls.base.errors import HlsError
from e2hls.base.rtl_design import PortReport, ProcessReport, RegionReport, RtlDesign, RtlOptions, RtlReport
from e2hls.ir import Design, LoopInfo, Process, Stream
from e2hls.passes.ping_pong import Pair, pairs_of, with_tokens
from e2hls.passes.port_conflicts import Cut, cut_ports
from e2hls.passes.regions import analyse

__all__ = ["generate"]

_LIBRARY = Path(__file__).parents[1] / "rtl"
_FREE_HALVES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    emitter: ProcessEmitter
    compiled: Compiled
    report: ProcessReport


def generate(design: Design, options: RtlOptions, directory: Path) -> RtlDesign:
    """Write the RTL of ``design`` and its report into ``directory``.

    Raises: HlsError where the design needs more ports or a shorter recurrence than hardware has.
    """
    pairs = pairs_of(design)
    streams = _streams(design, pairs)
    built = [
        _process(design, with_tokens(process, pairs), streams, pairs, options) for process in design.processes
    ]
    rams = _rams(built)
    modules = [Module(name=b.report.module, channels=tuple(b.emitter.text.channels)) for b in built]
    tokens = [*((pair.full, 0) for pair in pairs), *((pair.free, _FREE_HALVES) for pair in pairs)]
    top = top_module(design, modules, rams, tokens)
    for suffix in ("sv", "v"):
        folder = directory / suffix
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{design.name}.{suffix}").write_text(top)
        for source in sorted(_LIBRARY.glob("*.sv")):
            (folder / f"{source.stem}.{suffix}").write_text(source.read_text())
        for b in built:
            text = b.compiled.sv if suffix == "sv" else b.compiled.verilog
            (folder / f"{b.report.module}.{suffix}").write_text(text)
    report = RtlReport(
        ports=_ports(design),
        processes=tuple(b.report for b in built),
        rams=tuple((use.ram.name, use.ram.depth, use.ram.width) for use in rams),
    )
    (directory / "report.json").write_text(report.to_json())
    return RtlDesign.load(design.name, directory)


def _streams(design: Design, pairs: Iterable[Pair]) -> dict[str, Stream]:
    streams = {stream.name: stream for stream in (*design.inputs, *design.outputs, *design.streams)}
    for pair in pairs:
        streams |= {pair.full.name: pair.full, pair.free.name: pair.free}
    return streams


def _process(
    design: Design,
    process: Process,
    streams: Mapping[str, Stream],
    pairs: tuple[Pair, ...],
    options: RtlOptions,
) -> _Built:
    """The process with loop nests run as one loop, or with a region per loop where hardware cannot."""
    merged, apart = (len(analyse(process, merge=merge).headers) for merge in (True, False))
    try:
        return _build(design, process, streams, pairs, options, merge=True)
    except HlsError:
        if merged == apart:
            raise
    return _build(design, process, streams, pairs, options, merge=False)


def _build(
    design: Design,
    process: Process,
    streams: Mapping[str, Stream],
    pairs: tuple[Pair, ...],
    options: RtlOptions,
    *,
    merge: bool,
    forwarded: frozenset[str] = frozenset(),
) -> _Built:
    shared = frozenset(array.name for array in design.shared)
    alone = process.name == design.name
    module = f"{design.name}_core" if alone else f"{design.name}_{process.name}"
    cut = cut_ports(Cut(process=process), ram_arrays(process, shared), merge=merge)
    error: HlsError | None = None
    for ii, relax in _attempts(process):
        depths = dict.fromkeys(forwarded, ii)
        emitter = ProcessEmitter(module, cut, streams, shared, merge=merge, forwarded=depths)
        emitter.run()
        tokens = _token_constraints(process.name, pairs, emitter.memories.rams)
        constraints = [*emitter.memories.constraints, *tokens]
        try:
            text = emitter.text.text()
            compiled = compile_proc(
                text, module, ii=ii, relax=relax, constraints=constraints, options=options
            )
        except (CycleError, ThroughputError) as cause:
            if joint := joint_arrays(emitter, cause):
                joint |= forwarded
                return _build(design, process, streams, pairs, options, merge=merge, forwarded=joint)
            error = blame(process, emitter, ii, cause)
        else:
            report = _report(process, module, emitter, compiled, ii)
            return _Built(emitter=emitter, compiled=compiled, report=report)
    assert error
    raise error


def _token_constraints(process: str, pairs: Iterable[Pair], rams: Sequence[Ram]) -> list[str]:
    """Scheduling constraints that keep accesses between the tokens that allow them."""
    out = []
    for pair in pairs:
        for ram in rams:
            if ram.array not in {array.name for array in pair.arrays}:
                continue
            if process == pair.producer:
                out.append(f"{pair.free.name}:recv:{ram.name}_wreq:send:0:none")
                out.append(f"{ram.name}_wreq:send:{pair.full.name}:send:0:none")
            elif process == pair.consumer:
                out.append(f"{pair.full.name}:recv:{ram.name}_rreq:send:0:none")
                out.append(f"{ram.name}_rreq:send:{pair.free.name}:send:1:none")
    return out


def _attempts(process: Process) -> list[tuple[int, bool]]:
    """Cycles per activation, and whether the clock period may be relaxed for them, the best first.

    As few cycles as keep the period, at most what the loops ask for; else throughput counts more.
    """
    most = max((1, *(loop.ii for loop in process.loops.values())))
    counts = range(1, most + 1)
    return [*((ii, False) for ii in counts if most > 1), *((ii, True) for ii in counts)]


def _report(
    process: Process, module: str, emitter: ProcessEmitter, compiled: Compiled, ii: int
) -> ProcessReport:
    regions = []
    for header in emitter.flow.headers:
        loop: LoopInfo | None = process.loops.get(header)
        name = "entry" if header == emitter.flow.headers[0] else "step"
        regions.append(RegionReport(name=loop.name if loop else name, ii=ii))
    return ProcessReport(
        name=process.name,
        module=module,
        ii=ii,
        pipeline_stages=compiled.pipeline_stages,
        period_ps=compiled.period_ps,
        regions=tuple(regions),
        multipliers=len(emitter.text.multipliers),
        state_bits=sum(width for width, _ in emitter.text.states.values()),
    )


def _ports(design: Design) -> tuple[PortReport, ...]:
    return tuple(
        PortReport(name=s.name, data_bits=s.data_bits, axis=s.axis, output=output, sides=s.sides)
        for streams, output in ((design.inputs, False), (design.outputs, True))
        for s in streams
    )


def _rams(built: Iterable[_Built]) -> list[RamUse]:
    """The memories, those of two processes joined."""
    found: dict[str, RamUse] = {}
    for b in built:
        for ram in b.emitter.memories.rams:
            old = found.get(ram.name)
            found[ram.name] = RamUse(
                ram=ram,
                reads=ram.reads or (old is not None and old.reads),
                writes=ram.writes or (old is not None and old.writes),
            )
    return list(found.values())
