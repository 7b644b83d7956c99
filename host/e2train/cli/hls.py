# SPDX-License-Identifier: Apache-2.0
"""``e2train hls``: C++ kernels to SystemVerilog, and what they take of a board's part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from e2train.config import EngineConfig, load_config
from e2train.devices.protocol import MODES, DeviceError, Mode, products_per_multiplier

if TYPE_CHECKING:
    from e2hls import Kernel
    from e2hls.base.rtl_design import RtlReport
    from e2hls.pipeline import Watch
    from e2hls.report import KernelReport, PartBudget

__all__ = ["app", "find_kernel", "part_budget"]

ENGINE = "engine"
_SHOWN_PATHS = 5
_GRADIENT_BITS = 8  # of the gradients that MACs per cycle are told for

app = typer.Typer(no_args_is_help=True, help="C++ kernels to SystemVerilog: build them, report on them.")

Kernels = Annotated[
    list[str] | None,
    typer.Argument(help="'engine', or a .cpp file whose top function has the file's name. [default: engine]"),
]
Board = Annotated[str, typer.Option(help="Configuration in boards.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON line per kernel.")]


DumpIr = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Leave what each pass makes in DIR/KERNEL, one numbered file per pass."),
]
VerifyIr = Annotated[bool, typer.Option("--verify-ir", help="Verify LLVM IR and the IR after every pass.")]


@app.command()
def build(
    kernels: Kernels = None,
    board: Board = "pynq_z2",
    as_json: AsJson = False,
    dump_ir: DumpIr = None,
    verify_ir: VerifyIr = False,
) -> None:
    """Compile kernels to SystemVerilog, for simulation and for synthesis, and name the files.

    With --dump-ir or --verify-ir every pass runs, else a kernel is compiled once.
    """
    from e2hls import build_rtl

    from e2train.devices.build import rtl_options

    config = load_config(board)
    for name in kernels or [ENGINE]:
        kernel = find_kernel(name, config)
        with _progress(f"{kernel.name}: C++ to SystemVerilog"):
            design = build_rtl(kernel, rtl_options(config), watch=_watch(kernel, dump_ir, verify_ir))
        files = [str(path) for path in (*design.sv_files, *design.verilog_files)]
        if as_json:
            typer.echo(json.dumps({"kernel": kernel.name, "board": board, "files": files}))
        else:
            typer.echo("\n".join(files))


@app.command()
def report(kernels: Kernels = None, board: Board = "pynq_z2", as_json: AsJson = False) -> None:
    """Cells against the board's part, schedule and logic depth; exit code 1 where a kernel does not fit.

    The first report on a kernel takes minutes, most of them in Yosys; later ones come from the cache.
    """
    from e2hls import build_rtl
    from e2hls import report as reporting

    from e2train.devices.build import rtl_options

    fits = True
    config = load_config(board)
    for name in kernels or [ENGINE]:
        kernel = find_kernel(name, config)
        with _progress(f"{kernel.name}: C++ to SystemVerilog"):
            design = build_rtl(kernel, rtl_options(config))
        title = f"{kernel.name} on {config.part}: synthesis (minutes, the first time)"
        with _progress(title) as progress:
            result = reporting.report(design, part_budget(config), progress=progress)
        macs = _macs_per_cycle(config) if name == ENGINE else {}
        fits = fits and result.fits and _multipliers_suffice(result, macs)
        if as_json:
            typer.echo(json.dumps(result.as_json() | {"board": board, "macs_per_cycle": macs}))
        else:
            _print_report(result, macs)
    raise typer.Exit(0 if fits else 1)


def _macs_per_cycle(config: EngineConfig) -> dict[Mode, int]:
    return {mode: config.macs_per_cycle * products_per_multiplier(mode, _GRADIENT_BITS) for mode in MODES}


def find_kernel(name: str, config: EngineConfig) -> Kernel:
    """The engine of a configuration, or the kernel in a C++ file.

    Raises: DeviceError when there is no such kernel.
    """
    from e2hls import Kernel

    from e2train.devices.build import engine_kernel

    if name == ENGINE:
        return engine_kernel(config)
    source = Path(name)
    if source.suffix != ".cpp" or not source.is_file():
        raise DeviceError(f"no kernel {name!r}: give '{ENGINE}' or an existing .cpp file")
    if not source.stem.isidentifier():
        raise DeviceError(f"{name}: the file's name is the top function's and must be a C++ identifier")
    return Kernel(source.stem, source, (source.parent,))


def part_budget(config: EngineConfig) -> PartBudget:
    """What the board's part has."""
    from e2hls.report import PartBudget

    return PartBudget(
        part=config.part,
        family=config.family,
        period_ns=config.period_ns,
        dsp=config.dsp,
        bram36=config.bram36,
        lut=config.lut,
        ff=config.ff,
    )


def _watch(kernel: Kernel, dump_ir: Path | None, verify_ir: bool) -> Watch | None:
    if dump_ir is None and not verify_ir:
        return None
    from e2hls.pipeline import Watch

    return Watch(verify_llvm=verify_ir, dump=None if dump_ir is None else dump_ir / kernel.name)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr, where that is a terminal, with the step that runs."""
    with Console(stderr=True).status(title) as status:
        yield lambda step: status.update(f"{title}: {step}")


def _multipliers_suffice(result: KernelReport, macs: dict[Mode, int]) -> bool:
    """Whether the DSPs that multiply are as many as the products claimed for each cycle."""
    needed = (count // products_per_multiplier(mode, _GRADIENT_BITS) for mode, count in macs.items())
    return result.cells.multipliers >= max(needed, default=0)


def _print_report(result: KernelReport, macs: dict[Mode, int]) -> None:
    from e2hls.report import TIMING_NOTE

    console = Console()
    usage = Table(title=f"{result.kernel} on {result.budget.part}")
    for heading in ("", "used", "of", "%"):
        usage.add_column(heading, justify="right" if heading else "left")
    for row in result.usage:
        style = "" if row.fits else "red"
        cells = (row.resource.upper(), f"{row.used:g}", str(row.available), f"{row.percent:.1f}")
        usage.add_row(*cells, style=style)
    console.print(usage)
    for kind, count in result.cells.other.items():
        console.print(f"also {count} {kind}", markup=False)
    _print_schedule(console, result.schedule)
    _print_paths(console, result)
    console.print(f"multipliers: {result.cells.multipliers}")
    for mode, count in macs.items():
        console.print(f"{mode}: {count} MACs of 8 bits per cycle")
    if not _multipliers_suffice(result, macs):
        console.print("fewer multipliers in DSPs than MACs per cycle", style="red")
    console.print(TIMING_NOTE, style="yellow")


def _print_schedule(console: Console, schedule: RtlReport) -> None:
    table = Table(title="schedule")
    for heading in ("process", "stages", "multipliers", "state bits", "loops"):
        table.add_column(heading, justify="left" if heading in ("process", "loops") else "right")
    for process in schedule.processes:
        loops = ", ".join(f"{region.name} (II={region.ii})" for region in process.regions)
        counts = (str(process.pipeline_stages), str(process.multipliers), str(process.state_bits))
        table.add_row(process.name, *counts, loops)
    console.print(table)


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
