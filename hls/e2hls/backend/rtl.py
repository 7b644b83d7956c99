# SPDX-License-Identifier: Apache-2.0
"""The modules of a design: those that XLS made of its processes, and the top that joins them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from e2hls.backend.schedule import ScheduledProcess, schedule
from e2hls.backend.wrapper import PORT_DEPTH, Module, RamUse, top_module
from e2hls.base.rtl_design import (
    REPORT_FILE,
    TERMS_FILE,
    FifoReport,
    PortReport,
    RtlDesign,
    RtlOptions,
    RtlReport,
)
from e2hls.ir import Design
from e2hls.xls_verilog.registers import split_registers

__all__ = ["Rtl", "add_top", "schedule_all", "split_register_blocks", "write"]

_LIBRARY = Path(__file__).parents[1] / "rtl"
_DUAL = "e2hls_ram_dual"  # which few designs have


@dataclass(frozen=True, slots=True, kw_only=True)
class Rtl:
    """A design, its port conflicts cut, and the modules of its processes."""

    design: Design
    processes: tuple[ScheduledProcess, ...]
    top: str = ""

    @property
    def rams(self) -> tuple[RamUse, ...]:
        """The memories, those of two processes joined."""
        found: dict[str, RamUse] = {}
        for process in self.processes:
            for ram in process.rams:
                old = found.get(ram.name)
                found[ram.name] = RamUse(
                    ram=ram,
                    reads=ram.reads or (old is not None and old.reads),
                    writes=ram.writes or (old is not None and old.writes),
                )
        return tuple(found.values())


def schedule_all(design: Design, options: RtlOptions) -> Rtl:
    """Make a module of each process.

    Raises: HlsError where the design needs more ports or a shorter recurrence than hardware has.
    """
    processes = tuple(schedule(process, design, options) for process in design.processes)
    cut = tuple(each.process for each in processes)
    return Rtl(design=replace(design, processes=cut), processes=processes)


def split_register_blocks(rtl: Rtl) -> Rtl:
    """One clocked block per enable in each module."""
    split = (
        replace(each, sv=split_registers(each.sv), verilog=split_registers(each.verilog))
        for each in rtl.processes
    )
    return replace(rtl, processes=tuple(split))


def add_top(rtl: Rtl) -> Rtl:
    """The module that joins all others by FIFOs and memories."""
    modules = [Module(name=each.report.module, channels=each.channels) for each in rtl.processes]
    return replace(rtl, top=top_module(rtl.design, modules, rtl.rams))


def write(rtl: Rtl, directory: Path) -> RtlDesign:
    """Write all modules and the report into ``directory``."""
    design = rtl.design
    for suffix in ("sv", "v"):
        folder = directory / suffix
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{design.name}.{suffix}").write_text(rtl.top)
        for source in sorted(_LIBRARY.glob("*.sv")):
            if source.stem == _DUAL and f"{_DUAL} #" not in rtl.top:
                continue
            (folder / f"{source.stem}.{suffix}").write_text(source.read_text())
        for each in rtl.processes:
            text = each.sv if suffix == "sv" else each.verilog
            (folder / f"{each.report.module}.{suffix}").write_text(text)
    report = RtlReport(
        ports=_ports(design),
        processes=tuple(each.report for each in rtl.processes),
        rams=tuple((use.ram.name, use.ram.depth, use.ram.width) for use in rtl.rams),
        fifos=tuple(_fifos(rtl)),
        notes=design.notes,
    )
    (directory / REPORT_FILE).write_text(report.to_json())
    terms = {each.report.module: dict(each.terms) for each in rtl.processes}
    (directory / TERMS_FILE).write_text(json.dumps(terms))
    return RtlDesign.load(design.name, directory)


def _fifos(rtl: Rtl) -> Iterator[FifoReport]:
    ends = {
        (channel.name, channel.sends): each.report.name for each in rtl.processes for channel in each.channels
    }
    ports = (*rtl.design.inputs, *rtl.design.outputs)
    for stream in (*ports, *rtl.design.streams):
        yield FifoReport(
            name=stream.name,
            depth=PORT_DEPTH if stream in ports else max(1, stream.depth),
            writer=ends.get((stream.name, True), ""),
            reader=ends.get((stream.name, False), ""),
            arrays=stream.guards,
            scalar=stream.scalar,
        )


def _ports(design: Design) -> tuple[PortReport, ...]:
    return tuple(
        PortReport(name=s.name, data_bits=s.data_bits, axis=s.axis, output=output, sides=s.sides)
        for streams, output in ((design.inputs, False), (design.outputs, True))
        for s in streams
    )
