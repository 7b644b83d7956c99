# SPDX-License-Identifier: Apache-2.0
"""``e2train energy``: what can be measured, measuring any command, and reports of runs side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2train.cli.interrupt import ends_at_once
from e2train.devices.address import is_elsewhere
from e2train.energy import (
    METER_HELP,
    EnergyError,
    LogSpec,
    Measured,
    Recording,
    gauge,
    load_costs,
    open_meter,
    sensor_rows,
    write_samples,
)

if TYPE_CHECKING:
    from e2train.devices.pynq import PynqDevice

__all__ = ["app"]

app = typer.Typer(
    help=f"Energy: measured by meters, modelled from what was executed. Meters: {METER_HELP}.",
    no_args_is_help=True,
)

_MOST_IDLE_S = 86400
_NO_ENERGY = 1  # of a command that ran well
_NOT_FOUND = 127  # as a shell reports a command that is not there
_SIGNALLED = 128  # and one that a signal ended, with the signal's number

Device = Annotated[str, typer.Option(help="pynq or pynq:HOST[:PORT], to look at a board's sensors too.")]
Overlay = Annotated[Path | None, typer.Option(help="Overlay archive of that board.")]
Config = Annotated[str, typer.Option(help="Configuration in boards.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]


@app.command()
def sensors(
    device: Device = "", overlay: Overlay = None, board: Config = "zcu104", as_json: Json = False
) -> None:
    """List what this machine, or a board, can measure, and why other meters are missing."""
    opened = _board(device, board, overlay)
    try:
        rows = sensor_rows(opened.read_file if opened else None, opened.board_name if opened else "")
    finally:
        if opened:
            opened.close()
    if as_json:
        for row in rows:
            typer.echo(json.dumps(asdict(row)))
        return
    table = Table()
    for heading in ("meter", "where", "found"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row.kind, row.where, f"[green]{escape(', '.join(row.found))}" if row.found else escape(row.reason)
        )
    Console().print(table)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def record(
    context: typer.Context,
    meter: Annotated[str, typer.Option(help=METER_HELP)] = "rapl",
    out: Annotated[Path, typer.Option(help="Folder for power.csv and energy.json.")] = Path("energy"),
    idle: Annotated[
        float, typer.Option(help="Seconds of idle power before the command.", min=0, max=_MOST_IDLE_S)
    ] = 2.0,
    device: Device = "",
    overlay: Overlay = None,
    board: Config = "zcu104",
    as_json: Json = False,
) -> None:
    """Measure any command: e2train energy record --meter rapl -- COMMAND ...

    The exit code is the command's; 1 where that is 0 and no energy was measured.
    """
    if not context.args:
        raise typer.BadParameter(
            "give the command after --: e2train energy record -- COMMAND ...", param_hint="COMMAND"
        )
    out.mkdir(parents=True, exist_ok=True)
    samples, result = out / "power.csv", out / "energy.json"
    opened = _board(device, board, overlay)
    try:
        read_board = opened.read_file if opened else None
        source = open_meter(meter, read_board, elsewhere=is_elsewhere(device))
        if isinstance(source, LogSpec) and source.path.resolve() in (samples.resolve(), result.resolve()):
            raise EnergyError(f"{source.path} is the meter's log; give another folder with --out")
        if isinstance(source, str):
            raise EnergyError(source)
        _clear(samples, result)
        if idle:
            sys.stderr.write(f"e2train: taking the idle power for at least {idle:g} s\n")
        with gauge(source, idle_s=idle) as running:
            code = _run(context.args)
    finally:
        if opened:
            opened.close()
    measured, recording = running.measured(), running.samples()
    payload = {"command": context.args, "exit_code": code, **measured.to_dict()}
    typer.echo(json.dumps(payload)) if as_json else _print(measured, recording, out)
    try:
        if recording is not None:
            write_samples(recording, samples)
        result.write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"e2train: cannot write to {out}: {error.strerror}\n")
        raise typer.Exit(code or 1) from None
    raise typer.Exit(_NO_ENERGY if not code and measured.energy_j is None else code)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json and report.csv.")] = Path(
        "runs/report"
    ),
    costs: Annotated[
        Path | None, typer.Option(help="TOML file with a cost table of your own; see energy/costs.toml.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="Table in that file; the first by default.")] = None,
) -> None:
    """Show one or several runs side by side: accuracy, energy by technique and layer, power, cycles."""
    with ends_at_once():
        from e2train.train import differences, read_run, write_reports

    costs_table = load_costs(costs, table) if costs else load_costs(name=table)
    finished = [read_run(run) for run in runs]
    if found := differences(finished):
        sys.stderr.write(f"e2train: these runs differ in more than their methods: {found}\n")
    path = write_reports(finished, costs_table, out)
    typer.echo(f"report {path}")


def _clear(*files: Path) -> None:
    """Take away what an earlier recording left, and see that the files can be written.

    Raises: EnergyError when they cannot.
    """
    for path in files:
        try:
            path.unlink(missing_ok=True)
            path.touch()
            path.unlink()
        except OSError as error:
            raise EnergyError(
                f"cannot write {path}: {error.strerror}; give another folder with --out"
            ) from None


def _run(command: list[str]) -> int:
    """The exit code of a command; Ctrl-C ends it, not the measurement."""
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        sys.stderr.write(f"e2train: cannot run {command[0]}: {error.strerror}\n")
        return _NOT_FOUND
    while True:
        try:
            code = process.wait()
            return code if code >= 0 else _SIGNALLED - code
        except KeyboardInterrupt:
            continue  # the command has got it too


def _print(measured: Measured, recording: Recording | None, out: Path) -> None:
    if measured.energy_j is None:
        typer.echo(f"no energy: {measured.reason}")
    else:
        idle = "" if measured.net_energy_j is None else f", {measured.net_energy_j:.3f} J above idle"
        typer.echo(f"{measured.energy_j:.3f} J in {measured.duration_s:.3f} s{idle}; {measured.source}")
    for remark in measured.remarks:
        typer.echo(remark)
    if recording is not None:
        typer.echo(f"samples {out / 'power.csv'}")


def _board(device: str, board: str, overlay: Path | None) -> PynqDevice | None:
    if not device:
        return None
    from e2train.cli.board import open_board
    from e2train.devices import DeviceError

    if device.partition(":")[0] != "pynq":
        raise DeviceError(f"{device!r} is no board whose sensors can be read; give pynq or pynq:HOST[:PORT]")
    if overlay is None:
        raise DeviceError("a board's sensors need its overlay: give the archive with --overlay FILE.zip")
    return open_board(device, board, overlay, 60.0)
