# SPDX-License-Identifier: Apache-2.0
"""``e2train bench``: cycles, MACs and array utilisation per layer and direction."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2train.cli.interrupt import ends_at_once
from e2train.devices import MODES, Mode, open_device

if TYPE_CHECKING:
    from e2train.nn.bench import BenchRow

__all__ = ["bench"]


def bench(
    model: Annotated[
        str, typer.Option(help="digits, resnet8 to resnet110, resnet18 or mobilenetv2.")
    ] = "resnet20",
    device: Annotated[str, typer.Option(help="Device to measure.")] = "rtl",
    board: Annotated[str, typer.Option(help="Configuration in boards.toml.")] = "pynq_z2",
    batch: Annotated[int, typer.Option(help="Images per batch.", min=1)] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per row.")] = False,
) -> None:
    """Measure every distinct convolution of a model, forward and backward."""
    with ends_at_once():
        from e2train.nn.bench import bench_layers, bench_rows, weighted_utilisation

    layers = bench_layers(model, batch=batch)
    rows = []
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        open_device(device, config=board) as opened,
        Progress(*columns, console=Console(stderr=True), disable=as_json, transient=True) as progress,
    ):
        task = progress.add_task(f"{model} on {device}", total=len(MODES) * len(layers) - 1)
        for row in bench_rows(layers, opened):
            rows.append(row)
            progress.advance(task)
    summary = {mode: weighted_utilisation(rows, mode) for mode in MODES}
    _print_json(rows, summary, model, device, board, batch) if as_json else _print_table(rows, summary, batch)


def _print_json(
    rows: list[BenchRow], summary: dict[Mode, float | None], model: str, device: str, board: str, batch: int
) -> None:
    for row in rows:
        typer.echo(json.dumps({"row": "layer"} | asdict(row)))
    about = {"row": "summary", "model": model, "device": device, "board": board, "batch": batch}
    typer.echo(json.dumps(about | {"utilisation_but_first_layer": summary}))


def _print_table(rows: list[BenchRow], summary: dict[Mode, float | None], batch: int) -> None:
    table = Table(title=f"batch {batch}; utilisation = MACs / (lanes x cycles)")
    for heading in ("layer", "times", "direction", "MACs", "cycles", "utilisation"):
        table.add_column(heading, justify="left" if heading in ("layer", "direction") else "right")
    for row in rows:
        cycles = "-" if row.cycles is None else f"{row.cycles:,}"
        table.add_row(row.layer, str(row.count), row.mode, f"{row.macs:,}", cycles, _percent(row.utilisation))
    table.add_section()
    for mode, utilisation in summary.items():
        table.add_row("all but the first, by MACs", "", mode, "", "", _percent(utilisation))
    Console().print(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
