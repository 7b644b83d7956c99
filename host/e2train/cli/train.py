# SPDX-License-Identifier: Apache-2.0
"""``e2train train``: one run, from a preset or a file to its report."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from e2train.cli.interrupt import ends_at_once

if TYPE_CHECKING:
    from e2train.train import Row, Summary

__all__ = ["train"]


def train(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET|FILE.toml",
            help="digits, cifar10-MODEL or cifar100-MODEL (resnet8 to resnet110, mobilenetv2), "
            "imagenet-resnet18; folder-MODEL for images of your own; or a run's config.toml.",
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="smb-fp32, smb-int8: standard mini-batches, nothing saved; sd: stochastic depth; "
            "smd: stochastic mini-batch dropping; slu: selective layer update; signsgd: signs of gradients; "
            "psg: predictive sign gradients; e2train: smd, slu and psg."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data set, or .npz file; digits need none.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="emulator, csim, rtl; pynq on a board, pynq:HOST or agent:HOST from a PC; "
            "under torchrun one per rank: pynq:HOST1,pynq:HOST2."
        ),
    ] = None,
    overlay: Annotated[Path | None, typer.Option(help="Overlay archive, for a pynq device.")] = None,
    board: Annotated[str | None, typer.Option(help="Configuration in boards.toml.")] = None,
    meter: Annotated[
        str | None,
        typer.Option(help="Energy meter: auto (the board's own), none; others: e2train energy --help."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Scheduled steps, dropped ones included.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data, in place of the preset's steps.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for weight initialisation and sampling.")] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Start from the weights of this run, model.pt or checkpoint.pt."),
    ] = None,
    freeze: Annotated[str | None, typer.Option(help="Layers to keep fixed, such as stem,blocks.0-2.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, under runs/ by default.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in this folder.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Discard the run in this folder, finished or not, and start again."),
    ] = False,
    log: Annotated[str | None, typer.Option(help="tensorboard: also write TensorBoard event files.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of config.toml, such as execution=offload."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON line.")] = False,
) -> None:
    """Train a network; options override the preset or the configuration file."""
    with ends_at_once():
        from e2train.train import METHODS, find_config, run_training
        from e2train.train.effects import chosen_keys, unused_note

    where = {"device": device, "board": board, "meter": meter, "log": log}
    where |= {
        key: str(path)
        for key, path in (("data", data), ("overlay", overlay), ("init", init))
        if path is not None
    }
    what = {
        "method": method,
        "freeze": freeze,
        "steps": steps,
        "epochs": epochs,
        "batch": batch,
        "lr": lr,
        "seed": seed,
    }
    config = find_config(preset).set(settings or [], **where, **what)
    options = [key for key, value in (where | what).items() if value is not None]
    if note := unused_note(config, chosen_keys(preset, options, settings or [])):
        warnings.warn(note, stacklevel=1)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), disable=as_json)
    computed_on = config.device if METHODS[config.method].offloads else "the host"
    task = progress.add_task(f"{config.method} on {computed_on}", total=None, state="")

    def watch(row: Row) -> None:
        if not progress.live.is_started:  # not before the first step: an error until then is the only line
            progress.start()
            progress.reset(task, completed=row.step, total=row.steps)  # steps before it took other time
        progress.update(task, completed=row.step, state=_state(row))

    try:
        summary = run_training(
            config, out=out or config.default_out, resume=resume, overwrite=overwrite, watch=watch
        )
    finally:
        if progress.live.is_started:  # to stop what never started would print an empty line
            progress.stop()
    if summary is not None:  # as for every rank but the first
        typer.echo(summary.to_json()) if as_json else _print(summary, meter=config.meter)


def _state(row: Row) -> str:
    """A step in a few words; energy is modelled, against float32 with nothing saved."""
    saved = "" if row.energy_saved is None else f"  energy saved {row.energy_saved:.0%}"
    return f"accuracy {row.accuracy:.0%}  loss {row.loss:.2f}{saved}"


def _print(summary: Summary, *, meter: str) -> None:
    cycles = "" if summary.cycles is None else f", {summary.cycles:,} cycles"
    typer.echo(f"{summary.tested} accuracy {summary.accuracy:.2%} after {summary.steps_run} steps{cycles}")
    if energy := _energy(summary, meter):
        typer.echo(f"energy  {energy}")
    if summary.energy_notes:
        typer.echo(f"meter   {summary.energy_notes}")
    typer.echo(f"weights {summary.weights_sha256}")
    typer.echo(f"state   {summary.state_sha256}")
    typer.echo(f"report  {Path(summary.out) / 'report.html'}")


def _energy(summary: Summary, meter: str) -> str:
    """What was measured, and why nothing was where a meter was named."""
    for energy_j in (summary.energy_measured_j, summary.energy_simulated_j):
        if energy_j is not None:
            image_j, phases_j = summary.energy_per_image_j, summary.energy_phases_j
            parts = [f"{energy_j:.3f} J in {summary.energy_duration_s:.1f} s, {summary.energy_source}"]
            if image_j is not None:
                parts.append(f"{image_j:.3g} J per image")
            if phases_j is not None:
                parts.append(", ".join(f"{name} {spent_j:.3g} J" for name, spent_j in phases_j.items()))
            if summary.energy_host_j is not None:
                parts.append(f"the PC beside it {summary.energy_host_j:.3f} J, {summary.energy_host_source}")
            return "; ".join(parts)
    return "" if meter in ("auto", "none") else f"not measured: {summary.energy_reason}"
