# SPDX-License-Identifier: Apache-2.0
"""What a kernel takes of a board's part and how it is scheduled, as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from e2train.config import EngineConfig
from e2train.devices.protocol import Mode, products_per_multiplier

if TYPE_CHECKING:
    from e2hls.base.rtl_design import RtlReport
    from e2hls.report import KernelReport, PartBudget

__all__ = [
    "GRADIENT_BITS",
    "multipliers_suffice",
    "part_budget",
    "print_report",
    "print_schedule",
    "progress",
]

GRADIENT_BITS = 8  # of the gradients that MACs per cycle are reported for
_SHOWN_PATHS = 5


def part_budget(config: EngineConfig, *, copies: int = 1) -> PartBudget:
    """What the board's part has for so many copies of a kernel."""
    from e2hls.report import PartBudget

    return PartBudget(
        part=config.part,
        family=config.family,
        period_ns=config.period_ns,
        dsp=config.dsp,
        bram36=config.bram36,
        lut=config.lut,
        ff=config.ff,
        copies=copies,
    )


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr, where that is a terminal, with the step that runs."""
    with Console(stderr=True).status(title) as status:
        yield lambda step: status.update(f"{title}: {step}")


def multipliers_suffice(result: KernelReport, macs: Mapping[Mode, int]) -> bool:
    """Whether the DSPs that multiply are as many as the products claimed for each cycle."""
    needed = (count // products_per_multiplier(mode, GRADIENT_BITS) for mode, count in macs.items())
    return result.budget.copies * result.cells.multipliers >= max(needed, default=0)


def print_report(result: KernelReport, macs: Mapping[Mode, int] = MappingProxyType({})) -> None:
    from e2hls.report import TIMING_NOTE

    console = Console()
    copies = f"{result.budget.copies} x " if result.budget.copies > 1 else ""
    usage = Table(title=f"{copies}{result.kernel} on {result.budget.part}")
    for heading in ("", "used", "of", "%"):
        usage.add_column(heading, justify="right" if heading else "left")
    for row in result.usage:
        style = "" if row.fits else "red"
        cells = (row.resource.upper(), f"{row.used:g}", str(row.available), f"{row.percent:.1f}")
        usage.add_row(*cells, style=style)
    console.print(usage)
    for kind, count in result.cells.other.items():
        console.print(f"also {count} {kind}", markup=False)
    print_schedule(result.schedule)
    _print_paths(console, result)
    console.print(f"multipliers: {copies}{result.cells.multipliers}")
    for mode, count in macs.items():
        console.print(f"{mode}: {count} MACs of 8 bits per cycle")
    if not multipliers_suffice(result, macs):
        console.print("fewer multipliers in DSPs than MACs per cycle", style="red")
    console.print(TIMING_NOTE, style="yellow")


def print_schedule(schedule: RtlReport) -> None:
    """Stages and initiation intervals of every process."""
    table = Table(title="schedule")
    for heading in ("process", "stages", "multipliers", "state bits", "loops"):
        table.add_column(heading, justify="left" if heading in ("process", "loops") else "right")
    for process in schedule.processes:
        loops = ", ".join(f"{region.name} (II={region.ii})" for region in process.regions)
        counts = (str(process.pipeline_stages), str(process.multipliers), str(process.state_bits))
        table.add_row(process.name, *counts, loops)
    Console().print(table)


def _print_paths(console: Console, result: KernelReport) -> None:
    period_ns = result.budget.period_ns
    title = f"longest paths, one per stage (bound {period_ns:g} ns by assumed delays)"
    table = Table(title=title, show_lines=True)
    for heading in ("from, to", "ns", "wire", "LUTs", "carry", "DSPs"):
        text = heading == "from, to"
        table.add_column(
            heading, justify="left" if text else "right", overflow="fold" if text else "ellipsis"
        )
    for path in result.paths[:_SHOWN_PATHS]:
        counts = (f"{path.wire_percent:.0f}%", str(path.lut_levels), str(path.carry_bits), str(path.dsps))
        style = "red" if path.estimate_ns > period_ns else ""
        ends = f"{path.start_term or path.start}\n-> {path.end_term or path.end}"
        table.add_row(ends, f"{path.estimate_ns:.2f}", *counts, style=style)
    console.print(table)
    if len(result.paths) > _SHOWN_PATHS:
        console.print(f"and {len(result.paths) - _SHOWN_PATHS} shorter ones; all with --json")
    if result.looped_cells:
        console.print(f"{result.looped_cells} cells lie on combinational loops", style="red")
    if result.deep_paths:
        console.print(
            f"{len(result.deep_paths)} paths are longer than the clock period, as assumed", style="red"
        )
