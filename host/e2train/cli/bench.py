# SPDX-License-Identifier: Apache-2.0
"""``e2train bench``: cycles of a training step and how busy the multipliers are, per layer and direction."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from e2train.cli.interrupt import ends_at_once
from e2train.config import load_config
from e2train.devices import MODES, open_resident

if TYPE_CHECKING:
    from e2train.nn.bench import BenchRow, StepCycles

__all__ = ["BlockGradientBits", "InputGradientBits", "ResultBits", "bench"]

ResultBits = Annotated[Literal["8", "16"], typer.Option(help="Of results of forward and grad_input.")]
InputGradientBits = Annotated[
    Literal["0", "8", "16"], typer.Option(help="Of results of grad_input; 0: as --result-bits.")
]
BlockGradientBits = Annotated[Literal["8", "16"], typer.Option(help="Of gradients from block to block.")]
_BUT_FIRST = "all but the first"


def bench(
    model: Annotated[str, typer.Option(help="digits, resnet8 to resnet110 or mobilenetv2.")] = "resnet20",
    device: Annotated[
        Literal["rtl", "csim", "emulator"], typer.Option(help="rtl alone counts cycles.")
    ] = "rtl",
    board: Annotated[str, typer.Option(help="Configuration in boards.toml.")] = "pynq_z2",
    batch: Annotated[int, typer.Option(help="Images of the step that is run.", min=1)] = 8,
    planned_batch: Annotated[
        int, typer.Option(help="Images of a step that is planned: an estimate.", min=1)
    ] = 128,
    gradient_bits: Annotated[Literal["8", "16"], typer.Option(help="Of output gradients.")] = "8",
    result_bits: ResultBits = "16",
    input_gradient_bits: InputGradientBits = "0",
    block_gradient_bits: BlockGradientBits = "16",
    psg: Annotated[bool, typer.Option("--psg", help="Weight gradients from high bits alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per row.")] = False,
) -> None:
    """Run a training step over tensors in the device's memory, and count cycles.

    Its operations run one after the other, and once more as they overlap on a board.

    Utilisation is that of the multipliers, which make two products a cycle of 8-bit operands. Loads and
    stores count. A small batch leaves the engine waiting for its first load and its last store.
    """
    with ends_at_once():
        from e2train.nn.bench import BenchStep

    step = BenchStep(
        model,
        load_config(board),
        batch=batch,
        gradient_bits=int(gradient_bits),
        result_bits=int(result_bits),
        input_gradient_bits=int(input_gradient_bits),
        block_gradient_bits=int(block_gradient_bits),
        predicted=psg,
    )
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        closing(open_resident(device, config=board)) as opened,
        Progress(*columns, console=Console(stderr=True), disable=as_json, transient=True) as progress,
    ):
        task = progress.add_task(f"{model} on {device}", total=step.steps(opened) * step.operations)
        ledger, cycles = step.run(opened, lambda operations: progress.advance(task, operations))
    rows = step.by_shape(ledger)
    busy = {mode: step.utilisation(ledger, mode) for mode in MODES if any(row.mode == mode for row in rows)}
    planned = None if cycles is None else step.planned(cycles, planned_batch)
    if as_json:
        for row in rows:
            typer.echo(json.dumps({"row": "layer"} | asdict(row)))
        about = {"row": "summary", "model": model, "device": device, "board": board, "batch": batch}
        whole = (
            None
            if cycles is None
            else asdict(cycles) | {"apart": cycles.apart, "elements_add": cycles.elements_add}
        )
        about |= {"gradient_bits": int(gradient_bits), "result_bits": int(result_bits)}
        about |= {"input_gradient_bits": int(input_gradient_bits) or int(result_bits)}
        about |= {"block_gradient_bits": int(block_gradient_bits), "cycles": whole}
        planned_step = {"planned_batch": planned_batch, "planned_cycles": planned}
        typer.echo(json.dumps(about | {"utilisation_but_first_layer": busy} | planned_step))
        return
    Console().print(_layers(rows, busy, f"{model} on {device}, {board}, batch {batch}"))
    if cycles is not None:
        Console().print(_step(cycles, f"step of {batch} images"))
        typer.echo(f"planned for a step of {planned_batch} images, as they overlap: {planned:,} cycles")


def _layers(rows: list[BenchRow], busy: dict[Any, float | None], title: str) -> Table:
    table = Table(title=title, caption="utilisation = MACs / (products a cycle x cycles)")
    for heading in ("layer", "times", "direction", "MACs", "cycles", "utilisation"):
        table.add_column(heading, justify="left" if heading in ("layer", "direction") else "right")
    for row in rows:
        cycles = "-" if row.cycles is None else f"{row.cycles:,}"
        table.add_row(row.layer, str(row.count), row.mode, f"{row.macs:,}", cycles, _percent(row.utilisation))
    table.add_section()
    for mode, utilisation in busy.items():
        table.add_row(_BUT_FIRST, "", mode, "", "", _percent(utilisation))
    return table


def _step(cycles: StepCycles, title: str) -> Table:
    table = Table(title=title)
    table.add_column("operations")
    for heading in ("cycles", "of convolutions"):
        table.add_column(heading, justify="right")
    for name, figure in (
        ("convolutions", cycles.convolutions),
        ("  of these: multipliers idle", cycles.idle),
        ("affine", cycles.affine),
        ("reduce", cycles.reduce),
        ("all, one after the other", cycles.apart),
        ("all, as they overlap", cycles.total),
    ):
        table.add_row(name, f"{figure:,}", _percent(figure / cycles.convolutions))
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
