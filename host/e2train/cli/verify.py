# SPDX-License-Identifier: Apache-2.0
"""``e2train verify``: the cocotb benches of the kernels on Verilator."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2train.config import EngineConfig, load_config
from e2train.devices import DeviceError

if TYPE_CHECKING:
    from e2sim.verify import VerifyReport, VerifyTarget

__all__ = ["BENCHES", "verify", "verify_target"]

BENCHES = {"engine": "engine_bench"}  # kernel -> module in sim/benches


def verify(
    kernels: Annotated[
        list[str] | None, typer.Argument(help="Kernels to verify; all if none is named.")
    ] = None,
    board: Annotated[str, typer.Option(help="Configuration in boards.toml.")] = "pynq_z2",
    seed: Annotated[int, typer.Option(help="Base of every test's own seed.")] = 1,
    waves: Annotated[bool, typer.Option(help="Run the first failing test again and keep its waves.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for logs, failing cases and waves.")] = Path(
        "build/verify"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per test.")] = False,
) -> None:
    """Verify kernels: every test of their benches, exact to the bit; exit code 1 on any failure."""
    from e2sim.verify import run

    config = load_config(board)
    targets = [verify_target(kernel, config) for kernel in kernels or BENCHES]
    report = run(targets, seed=seed, waves=waves, out=out)
    _print_json(report) if as_json else _print_table(report)
    raise typer.Exit(0 if report.passed else 1)


def verify_target(kernel: str, config: EngineConfig) -> VerifyTarget:
    """The RTL of one kernel, built if need be, and its bench.

    Raises: DeviceError when there is no such kernel.
    """
    from e2sim.verify import VerifyTarget

    from e2train.devices.build import engine_rtl

    if kernel not in BENCHES:
        raise DeviceError(f"no bench for kernel {kernel!r}; there are: {', '.join(BENCHES)}")
    design = engine_rtl(config)
    return VerifyTarget(design=design, bench=BENCHES[kernel], arguments=(("config", config.name),))


def _print_json(report: VerifyReport) -> None:
    for row in report.rows:
        typer.echo(json.dumps(asdict(row) | {"seed": report.seed}))


def _print_table(report: VerifyReport) -> None:
    kernels = sorted({row.kernel for row in report.rows})
    table = Table(title=f"{', '.join(kernels)}, seed {report.seed}", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    several = len(kernels) > 1
    for heading in (*(["kernel"] if several else []), "test"):
        table.add_column(heading, overflow="fold")  # a name that is cut cannot be looked for
    for heading in ("", "cases", "cycles", "seconds"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in report.rows:
        verdict = "[green]pass" if row.passed else "[red]FAIL"
        figures = (verdict, str(row.cases), str(row.cycles), f"{row.seconds:.1f}")
        table.add_row(*([row.kernel] if several else []), escape(row.test), *figures)
    console = Console()
    console.print(table)
    failed = [row for row in report.rows if not row.passed]
    for row in failed:
        console.print(f"{row.kernel} {row.test}: {row.message}", style="red", markup=False, soft_wrap=True)
    for path in report.waves:
        console.print(f"waves: {path}", markup=False, soft_wrap=True)
    console.print(f"{len(report.rows) - len(failed)} of {len(report.rows)} tests passed")
