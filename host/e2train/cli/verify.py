# SPDX-License-Identifier: Apache-2.0
"""``e2train verify``: the cocotb benches of the kernels on Verilator."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2train.cli.hls_check import Defines, IncludeDirs, Top
from e2train.config import EngineConfig, load_config
from e2train.devices import DeviceError

if TYPE_CHECKING:
    from e2sim.verify import VerifyReport, VerifyTarget

__all__ = ["BENCHES", "Source", "verify", "verify_target"]

BENCHES = {"engine": "engine_bench"}  # kernel -> module in sim/benches


def verify(
    benches: Annotated[
        list[str] | None,
        typer.Argument(help="'engine', or Python files of cocotb tests for a kernel. (default: engine)"),
    ] = None,
    kernel: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.cpp", help="The kernel of such files. (default: NAME.cpp beside NAME_bench.py)"
        ),
    ] = None,
    top: Top = None,
    include_dirs: IncludeDirs = None,
    defines: Defines = None,
    board: Annotated[str, typer.Option(help="Configuration in boards.toml.")] = "pynq_z2",
    seed: Annotated[int, typer.Option(help="Base of the tests' seeds.")] = 1,
    waves: Annotated[bool, typer.Option(help="Run the first failing test again and keep its waves.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for logs, failing cases and waves.")] = Path(
        "build/verify"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per test.")] = False,
) -> None:
    """Run the cocotb tests of a kernel on its RTL: the engine's, or your own; exit code 1 on any failure."""
    from e2sim.verify import run

    config = load_config(board)
    source = Source(kernel, top, tuple(include_dirs or ()), tuple(defines or ()))
    if source != Source() and all(bench in BENCHES for bench in benches or BENCHES):
        raise typer.BadParameter(
            "--kernel, --top, -I and -D belong to a bench of your own: e2train verify NAME_bench.py "
            "--kernel FILE.cpp"
        )
    targets = [verify_target(bench, config, source) for bench in benches or BENCHES]
    report = run(targets, seed=seed, waves=waves, out=out)
    _print_json(report) if as_json else _print_table(report)
    raise typer.Exit(0 if report.passed else 1)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the kernel of a user's own bench is."""

    file: Path | None = None
    top: str | None = None
    include_dirs: tuple[Path, ...] = ()
    defines: tuple[str, ...] = ()

    def beside(self, bench: Path) -> Path:
        """The kernel's C++.

        Raises: DeviceError where it is neither named nor beside the bench.
        """
        if self.file is not None:
            return self.file
        found = bench.with_name(f"{bench.stem.removesuffix('_bench')}.cpp")
        if not found.is_file():
            raise DeviceError(f"{bench}: there is no {found} beside it; name the kernel by --kernel FILE.cpp")
        return found


def verify_target(bench: str, config: EngineConfig, source: Source | None = None) -> VerifyTarget:
    """A bench and the RTL of its kernel, built if need be.

    Raises: DeviceError when there is no such bench or kernel.
    """
    from e2sim.verify import VerifyTarget, project_modules

    from e2train.devices.build import engine_rtl, rtl_options

    if bench in BENCHES:
        return VerifyTarget(
            design=engine_rtl(config), bench=BENCHES[bench], arguments=(("config", config.name),)
        )
    path = Path(bench)
    if path.suffix == ".cpp":
        raise DeviceError(f"{bench} is no bench; e2train hls check {bench} compares it with its native build")
    if path.suffix != ".py" or not path.is_file():
        raise DeviceError(f"no bench {bench!r}: give {', '.join(map(repr, BENCHES))} or an existing .py file")
    if not path.stem.isidentifier():
        raise DeviceError(f"{bench}: the file's name is a Python module's and must be an identifier")
    if path.stem in project_modules():
        raise DeviceError(f"{bench}: e2train's own benches have a module {path.stem}; rename the file")
    from e2hls import build_rtl
    from e2hls.checking.kernel import find_kernel

    source = source or Source()
    found = find_kernel(
        source.beside(path), top=source.top, include_dirs=source.include_dirs, defines=source.defines
    )
    design = build_rtl(found.kernel, rtl_options(config))
    return VerifyTarget(design=design, bench=path.stem, bench_dir=path.resolve().parent)


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
