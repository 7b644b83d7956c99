# SPDX-License-Identifier: Apache-2.0
"""``e2train hls``: C++ kernels to SystemVerilog, and what they take of a board's part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2train.cli.hls_check import Defines, IncludeDirs, Top, check
from e2train.cli.kernel_report import (
    GRADIENT_BITS,
    multipliers_suffice,
    part_budget,
    print_report,
    progress,
)
from e2train.config import EngineConfig, load_config
from e2train.devices.protocol import MODES, DeviceError, Mode, products_per_multiplier

if TYPE_CHECKING:
    from e2hls import Kernel
    from e2hls.pipeline import Watch

__all__ = ["app", "find_kernel"]

ENGINE = "engine"

app = typer.Typer(no_args_is_help=True, help="C++ kernels: check them, build SystemVerilog, report on it.")
app.command()(check)

Kernels = Annotated[
    list[str] | None,
    typer.Argument(help="'engine', or C++ files, each with a top function. (default: engine)"),
]
Board = Annotated[str, typer.Option(help="Configuration in boards.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON line per kernel.")]


DumpIr = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write what each pass makes to DIR/KERNEL, one numbered file per pass."),
]
VerifyIr = Annotated[bool, typer.Option("--verify-ir", help="Verify LLVM IR and the IR after every pass.")]


@app.command()
def build(
    kernels: Kernels = None,
    top: Top = None,
    include_dirs: IncludeDirs = None,
    defines: Defines = None,
    board: Board = "pynq_z2",
    as_json: AsJson = False,
    dump_ir: DumpIr = None,
    verify_ir: VerifyIr = False,
) -> None:
    """Compile kernels to SystemVerilog, for simulation and for synthesis, and print the files' paths.

    With --dump-ir or --verify-ir every pass runs; otherwise what was built before comes from the cache.
    """
    from e2hls import build_rtl

    from e2train.devices.build import rtl_options

    config = load_config(board)
    for name in kernels or [ENGINE]:
        kernel = find_kernel(name, config, top=top, include_dirs=include_dirs, defines=defines)
        with progress(f"{kernel.name}: C++ to SystemVerilog"):
            design = build_rtl(kernel, rtl_options(config), watch=_watch(kernel, dump_ir, verify_ir))
        files = [str(path) for path in (*design.sv_files, *design.verilog_files)]
        for note in design.report.notes:
            typer.echo(f"note: {note}", err=True)
        if as_json:
            typer.echo(json.dumps({"kernel": kernel.name, "board": board, "files": files}))
        else:
            typer.echo("\n".join(files))


@app.command()
def report(
    kernels: Kernels = None,
    top: Top = None,
    include_dirs: IncludeDirs = None,
    defines: Defines = None,
    board: Board = "pynq_z2",
    as_json: AsJson = False,
) -> None:
    """Report cells used of the board's part, schedule and logic depth; exit code 1 if a kernel does not fit.

    The first report on a kernel takes minutes, most of them in Yosys; later ones come from the cache.
    """
    from e2hls import build_rtl
    from e2hls import report as reporting

    from e2train.devices.build import rtl_options

    fits = True
    config = load_config(board)
    for name in kernels or [ENGINE]:
        kernel = find_kernel(name, config, top=top, include_dirs=include_dirs, defines=defines)
        with progress(f"{kernel.name}: C++ to SystemVerilog"):
            design = build_rtl(kernel, rtl_options(config))
        title = f"{kernel.name} on {config.part}: synthesis (minutes, the first time)"
        with progress(title) as step:
            copies = config.engines if name == ENGINE else 1
            result = reporting.report(design, part_budget(config, copies=copies), progress=step)
        macs = _macs_per_cycle(config) if name == ENGINE else {}
        fits = fits and result.fits and multipliers_suffice(result, macs)
        if as_json:
            typer.echo(json.dumps(result.as_json() | {"board": board, "macs_per_cycle": macs}))
        else:
            print_report(result, macs)
    raise typer.Exit(0 if fits else 1)


def _macs_per_cycle(config: EngineConfig) -> dict[Mode, int]:
    return {mode: config.macs_per_cycle * products_per_multiplier(mode, GRADIENT_BITS) for mode in MODES}


def find_kernel(
    name: str,
    config: EngineConfig,
    *,
    top: str | None = None,
    include_dirs: Sequence[Path] | None = None,
    defines: Sequence[str] | None = None,
) -> Kernel:
    """The engine of a configuration, or the kernel in a C++ file; what of it is left out is said on stderr.

    Raises: DeviceError when there is no such kernel; HlsError for a file without a top function.
    """
    from e2hls.checking.kernel import find_kernel as find

    from e2train.devices.build import engine_kernel

    if name == ENGINE:
        return engine_kernel(config)
    source = Path(name)
    if source.suffix == "" or not source.is_file():
        raise DeviceError(f"no kernel {name!r}: give '{ENGINE}' or an existing .cpp file")
    found = find(source, top=top, include_dirs=include_dirs or (), defines=defines or ())
    if found.note:
        typer.echo(f"{name}: {found.note}", err=True)
    return found.kernel


def _watch(kernel: Kernel, dump_ir: Path | None, verify_ir: bool) -> Watch | None:
    if dump_ir is None and not verify_ir:
        return None
    from e2hls.pipeline import Watch

    return Watch(verify_llvm=verify_ir, dump=None if dump_ir is None else dump_ir / kernel.name)
