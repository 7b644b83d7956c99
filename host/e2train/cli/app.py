# SPDX-License-Identifier: Apache-2.0
"""The command line: arguments in, one function call, exit code out."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from e2train import __version__
from e2train.cli.bench import bench
from e2train.cli.bitstream import app as bitstream
from e2train.cli.board import app as board
from e2train.cli.data import app as data
from e2train.cli.energy import app as energy
from e2train.cli.hls import app as hls
from e2train.cli.interrupt import STOPPED
from e2train.cli.train import train
from e2train.cli.use import evaluate, export, predict
from e2train.cli.verify import verify

__all__ = ["app", "main"]

_WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]  # for which typer has no public name
_USER_ERROR = 2
_USER_ERRORS = {
    "e2hls": ("HlsError",),
    "e2hls.simulation": ("SimulationError",),
    "e2train.config": ("ConfigError",),
    "e2train.devices": ("DeviceError", "ShapeError"),
    "e2train.energy": ("EnergyError",),
    "e2train.nn": ("DivergenceError", "ModelError", "ResidentError"),
    "e2train.numerics": ("ExactnessError",),
    "e2train.overlay": ("OverlayError",),
    "e2train.runtime.resident": ("BodyError",),
    "e2train.train": ("DataError", "TrainError"),
}

app = typer.Typer(
    help="Train CNNs with low-precision convolutions, forward and backward, on a PYNQ-class FPGA.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"e2train {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass  # with no docstring, which would be the help


app.command()(train)
app.command()(evaluate)
app.command()(predict)
app.command()(export)
app.command()(verify)
app.add_typer(data, name="data")
app.add_typer(hls, name="hls")
app.command()(bench)
app.add_typer(board, name="board")
app.add_typer(
    energy, name="energy", short_help="Energy: measured by meters, modelled from what was executed."
)
app.add_typer(bitstream, name="bitstream")


def main() -> None:
    """Run the command line; a user-correctable error is one line on stderr and exit code 2."""
    _show_own_warnings()
    try:
        code = app(standalone_mode=False, prog_name="e2train")
    except _WrongUsage as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # else the help is printed already
            sys.stderr.write(f"e2train: {_usage(error)}\n")
        sys.exit(_USER_ERROR)
    except Exception as error:
        if (code := _exit_code(error)) is None:
            raise
        sys.stderr.write(f"e2train: {_one_line(error)}\n")
    sys.exit(code if isinstance(code, int) else 0)


def _show_own_warnings() -> None:
    """Show those of this package as a line without a place in the code."""
    other, package = warnings.showwarning, Path(__file__).parents[1]

    def show(message: Warning | str, category: type[Warning], filename: str, *place: Any) -> None:
        if issubclass(category, UserWarning) and Path(filename).is_relative_to(package):
            sys.stderr.write(f"e2train: {message}\n")
        else:
            other(message, category, filename, *place)

    warnings.showwarning = show  # type: ignore[assignment]  # what comes with place is passed on


def _usage(error: Any) -> str:
    """What is wrong with the arguments, and where it says what they may be."""
    what = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ")
    where = f"; see {error.ctx.command_path} --help" if error.ctx else ""
    return what[:1].lower() + what[1:] + where


def _exit_code(error: Exception) -> int | None:
    """Exit code of an error that needs no traceback, else None."""
    if isinstance(error, _known({"e2train.train": ("Interrupted",)})):
        return STOPPED
    return _USER_ERROR if isinstance(error, (OSError, *_known(_USER_ERRORS))) else None


def _known(errors: dict[str, tuple[str, ...]]) -> tuple[Any, ...]:
    """The classes; a package that nothing has imported, torch behind it perhaps, has raised none."""
    return tuple(
        getattr(sys.modules.get(package), name, ()) for package, names in errors.items() for name in names
    )


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())
