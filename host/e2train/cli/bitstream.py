# SPDX-License-Identifier: Apache-2.0
"""``e2train bitstream``: overlays for boards, built and checked."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2train.cli.hls_check import Defines, IncludeDirs, Top

if TYPE_CHECKING:
    from e2train.overlay.registers import Register

__all__ = ["OwnSource", "app"]

OwnSource = Annotated[
    Path | None,
    typer.Option("--kernel", metavar="FILE.cpp", help="A kernel of your own, in the engine's place."),
]

app = typer.Typer(help="Overlays for boards: build, check.", no_args_is_help=True)


@app.command()
def build(
    board: Annotated[str, typer.Option(help="Folder in bitstreams/.")] = "pynq_z2",
    kernel: OwnSource = None,
    top: Top = None,
    include_dirs: IncludeDirs = None,
    defines: Defines = None,
    out: Annotated[Path, typer.Option(help="Folder for the archive.")] = Path("build/bitstreams"),
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Make the overlay of the simulated board, without Vivado.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps and run none.")] = False,
) -> None:
    """Make a board's overlay archive: with Vivado, or for the simulated board.

    With --kernel a kernel of your own takes the engine's place behind the DMA.
    """
    from e2train.devices.build import engine_rtl
    from e2train.devices.own_kernel import own_kernel
    from e2train.overlay import ENGINE, load_board, simulated_overlay, write_overlay
    from e2train.overlay.vivado import VivadoBuild, source_hash

    if simulated and dry_run:
        raise typer.BadParameter("--simulated needs no Vivado and has no steps to print; leave out --dry-run")
    if kernel is None and (top or include_dirs or defines):
        raise typer.BadParameter(
            "--top, -I and -D belong to a kernel of your own; name it by --kernel FILE.cpp"
        )
    description = load_board(board)
    registers: tuple[Register, ...] = ()
    if kernel is None:
        name, files = ENGINE, () if dry_run else engine_rtl(description.config).verilog_files
    else:
        own = own_kernel(
            kernel, description.config, top=top, include_dirs=include_dirs or (), defines=defines or ()
        )
        name, files, registers = own.kernel, own.verilog_files, own.registers
    if simulated:
        overlay = simulated_overlay(
            description, source_sha256=source_hash(files), kernel=name, registers=registers
        )
    else:
        vivado = VivadoBuild(description, out, rtl=files, kernel=name, registers=registers)
        if dry_run:
            for step in vivado.steps():
                typer.echo(step)
            return
        overlay = vivado.run()
    typer.echo(write_overlay(overlay, out))


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="An overlay archive.")],
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as one JSON line.")] = False,
) -> None:
    """Verify an overlay archive against its manifest, and against this version's configuration."""
    from e2train.config import load_config
    from e2train.overlay import OverlayError, read_overlay
    from e2train.overlay.bitfile import read_bit_header
    from e2train.overlay.description import check_manifest

    overlay = read_overlay(file)
    manifest, config = overlay.manifest, load_config(overlay.manifest.config)
    if manifest.config_hash != config.hash32:
        raise OverlayError(
            f"{file} was built for another {manifest.config} ({manifest.config_hash:#010x}, this version has "
            f"{config.hash32:#010x}); rebuild it"
        )
    header = read_bit_header(overlay.bit)
    if not header.fits(config.part):
        raise OverlayError(f"{file}: the .bit file is for {header.part!r}, {config.name} has {config.part!r}")
    try:
        check_manifest(manifest)
    except OverlayError as error:
        raise OverlayError(f"{file}: {error}") from None
    if as_json:
        typer.echo(json.dumps(asdict(manifest)))
        return
    table = Table(title=escape(f"{file}: whole"), show_header=False)
    for key, value in asdict(manifest).items():
        table.add_row(key, "not known" if value is None else escape(str(value)))
    Console().print(table)
