# SPDX-License-Identifier: Apache-2.0
"""``e2train board``: look at a board, test it, simulate one, serve one that has no torch."""

from __future__ import annotations

import json
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2train.cli.agent import AGENT_HELP
from e2train.cli.bench import BlockGradientBits, InputGradientBits, ResultBits
from e2train.cli.bitstream import OwnSource
from e2train.cli.hls_check import Defines, IncludeDirs, Top
from e2train.devices.address import is_loopback

if TYPE_CHECKING:
    from e2train.devices.pynq import PynqDevice
    from e2train.runtime.board_plan import Link, StepPlan

__all__ = ["app", "open_board"]

app = typer.Typer(help="Boards: inspect, test or simulate one.", no_args_is_help=True)

_LOOK_S = 0.5
_MODELS = "digits, resnet8 to resnet110 or mobilenetv2"

Device = Annotated[str, typer.Option(help="pynq on a board, pynq:HOST[:PORT] from a PC.")]
Config = Annotated[str, typer.Option(help="Configuration in boards.toml.")]
Overlay = Annotated[Path, typer.Option(help="Archive that e2train bitstream build made.")]
Deadline = Annotated[float, typer.Option(help="Timeout of a transfer in seconds.", min=0.1)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]


@app.command()
def info(
    overlay: Overlay,
    device: Device = "pynq",
    board: Config = "zcu104",
    deadline: Deadline = 60.0,
    as_json: Json = False,
) -> None:
    """Show what is connected: board, overlay, engine, clock, power sensors."""
    from e2train.runtime.board_check import board_info

    with open_board(device, board, overlay, deadline) as opened:
        found = asdict(board_info(opened))
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table(show_header=False)
    for key, value in found.items():
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        table.add_row(key.replace("_", " "), escape(text) or "none")
    Console().print(table)


@app.command()
def check(
    overlay: Overlay,
    device: Device = "pynq",
    board: Config = "zcu104",
    deadline: Deadline = 60.0,
    seed: Annotated[int, typer.Option(help="Seed of the test's operands.")] = 1,
    model: Annotated[str, typer.Option(help=f"Also plan a training step: {_MODELS}.")] = "",
    batch: Annotated[int, typer.Option(help="Images per batch of that step.", min=1)] = 128,
    as_json: Json = False,
) -> None:
    """Test a board: identity, convolutions against the spec, latency, bandwidth; exit code 1 on a failure."""
    from e2train.runtime.board_check import link_of, run_checks, step_row

    planned = _planned(model, board, batch, "e2train") if model else None  # refused before the tests
    rows = []
    with open_board(device, board, overlay, deadline) as opened:
        for row in run_checks(opened, seed=seed):
            rows.append(row)
            if as_json:
                typer.echo(json.dumps(asdict(row)))
        if planned is not None:
            figures = _figures(planned, board, link_of(opened))
            rows.append(step_row(f"step of {model}", figures))
            if as_json:
                typer.echo(json.dumps(asdict(rows[-1])))
    if not as_json:
        table = Table()
        for heading in ("check", "", "found"):
            table.add_column(heading)
        for row in rows:
            table.add_row(row.name, "[green]pass" if row.passed else "[red]FAIL", escape(row.found))
        Console().print(table)
    raise typer.Exit(0 if rows and all(row.passed for row in rows) else 1)


@app.command()
def plan(
    model: Annotated[str, typer.Argument(help=f"{_MODELS}.")],
    board: Config = "zcu104",
    batch: Annotated[int, typer.Option(help="Images per batch.", min=1)] = 128,
    method: Annotated[str, typer.Option(help="Method that trains.")] = "e2train",
    result_bits: ResultBits = "16",
    input_gradient_bits: InputGradientBits = "0",
    block_gradient_bits: BlockGradientBits = "16",
    link_mb_s: Annotated[float, typer.Option(help="MB/s between PC and board.", min=0.001, max=1e6)] = 110.0,
    call_ms: Annotated[
        float, typer.Option(help="Milliseconds of a call or request.", min=0.0, max=60_000.0)
    ] = 0.5,
    as_json: Json = False,
) -> None:
    """What a resident training step takes on a board, without one: calls, bytes, cycles, seconds."""
    from e2train.runtime.board_plan import Link

    link = Link(call_s=1e-3 * call_ms, bytes_per_s=1e6 * link_mb_s)
    bits = int(result_bits), int(input_gradient_bits), int(block_gradient_bits)
    figures = _figures(_planned(model, board, batch, method, bits), board, link)
    if as_json:
        typer.echo(json.dumps(figures))
        return
    table = Table(show_header=False)
    for key, value in figures.items():
        table.add_row(key.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else f"{value:,}")
    Console().print(table)


@app.command()
def serve(
    board: Annotated[str, typer.Option(help="Folder in bitstreams/ that describes the board.")] = "zcu104",
    kernel: OwnSource = None,
    top: Top = None,
    include_dirs: IncludeDirs = None,
    defines: Defines = None,
    bind: Annotated[str, typer.Option(help="Address to listen on; anything but loopback is open to all.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="7967 is where pynq looks; 0 picks a free port.")] = 7967,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND@N",
            help="Fail at the N-th transfer: dma-slverr, bitflip, hang, drop-connection, restart, silent for "
            "a minute. May be repeated.",
        ),
    ] = None,
) -> None:
    """Serve a simulated board that the pynq client takes for a real one, until Ctrl-C."""
    if kernel is None and (top or include_dirs or defines):
        raise typer.BadParameter(
            "--top, -I and -D belong to a kernel of your own; name it by --kernel FILE.cpp"
        )
    from e2train.config.extras import install_command
    from e2train.devices import DeviceError

    try:
        from e2sim.board import BoardServer, check_address, parse_faults
    except ModuleNotFoundError as error:
        raise DeviceError(
            f"the simulated board needs {error.name}; {install_command(error.name or '')}"
        ) from error
    from e2train.devices.own_kernel import own_kernel
    from e2train.devices.simulated_board import board_model, build_logic, kernel_logic, prepare_logic
    from e2train.overlay import load_board

    description = load_board(board)
    try:
        faults = parse_faults(fault or ())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fault") from error
    check_address(bind, port)  # before minutes of building
    if kernel is None:
        prepare_logic(description)
        own = None
    else:
        macros, folders = defines or (), include_dirs or ()
        own = own_kernel(kernel, description.config, top=top, include_dirs=folders, defines=macros)
    logic = kernel_logic(own) if own else build_logic
    with BoardServer(board_model(description), logic, bind=bind, port=port, faults=faults) as server:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        if not is_loopback(bind):
            sys.stderr.write(
                f"e2train: everybody who reaches {bind} can use this board, without any password\n"
            )
        if not description.remote_image:
            sys.stderr.write(f"e2train: no PYNQ.remote image exists for a real {description.pynq_name}\n")
        print(f"simulated {description.pynq_name} on {server.address}", flush=True)
        while not stop.wait(_LOOK_S):  # a signal that another thread is given does not wake this one
            pass


@app.command(help=AGENT_HELP, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def agent(context: typer.Context) -> None:
    from e2train.cli.agent import main

    raise typer.Exit(main(context.args))


def _planned(
    model: str, board: str, batch: int, method: str, bits: tuple[int, int, int] = (16, 0, 16)
) -> StepPlan:
    """A training step on a board; ``bits`` are of results, input gradients and gradients from block to block.

    Raises: TrainError for a method or model that has no such steps; ModelError for no model; BodyError for a
        batch that the board's memory cannot hold.
    """
    from e2train.config import load_config
    from e2train.nn import ResidentError, build_model, describe
    from e2train.runtime.board_plan import check_memory, plan_step
    from e2train.runtime.resident import Kinds
    from e2train.train.errors import TrainError
    from e2train.train.presets import METHODS

    if method not in METHODS or not METHODS[method].offloads:
        known = ", ".join(name for name, each in METHODS.items() if each.offloads)
        raise TrainError(f"no method {method!r} that computes on a board; there are: {known}")
    config = load_config(board)
    gates, signs = METHODS[method].skips == "by gate", METHODS[method].signs == "predicted"
    try:
        network = describe(*build_model(model))
    except ResidentError as error:
        raise TrainError(
            f"{model} has no resident step to plan, as only its convolutions run on a board; plan {_MODELS}"
        ) from error
    kinds = Kinds.of_bits(result=bits[0], input_gradient=bits[1], block_gradient=bits[2])
    check_memory(network, board, samples=batch, kinds=kinds)
    kept = (4, 8) if signs else (0, 0)
    return plan_step(network, config, samples=batch, kinds=kinds, bits=kept, gates=gates)


def _figures(planned: StepPlan, board: str, link: Link) -> dict[str, float]:
    """Figures of a training step by name; seconds end in ``_s``."""
    from e2train.config import load_config

    clock_hz = 1e9 / load_config(board).period_ns
    compute_s = planned.compute_s(clock_hz)
    return asdict(planned) | {
        "compute_s": compute_s,
        "transfer_s": planned.transfer_s(link),
        "step_s": planned.client_s(clock_hz) + planned.transfer_s(link),
        "step_through_agent_s": compute_s + planned.request_s(link),
    }


def open_board(device: str, board: str, overlay: Path, deadline: float) -> PynqDevice:
    """Open a device that must be a board.

    Raises: DeviceError when it is none, or cannot be opened.
    """
    from e2train.devices import DeviceError, open_device
    from e2train.devices.pynq import PynqDevice

    opened = open_device(device, config=board, overlay=overlay, deadline_s=deadline)
    if not isinstance(opened, PynqDevice):
        raise DeviceError(f"device {device} is no board; give pynq or pynq:HOST[:PORT]")
    return opened
