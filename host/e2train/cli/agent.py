# SPDX-License-Identifier: Apache-2.0
"""``e2train board agent``, which must run where NumPy and pynq are all there is: argparse, no typer."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from e2train.config import ConfigError, config_names, load_config
from e2train.devices import DeviceError, ResidentDevice, open_device, open_resident
from e2train.devices.address import is_loopback
from e2train.devices.agent_token import default_token_file, make_token
from e2train.overlay import OverlayError
from e2train.runtime.agent import AgentServer

__all__ = ["AGENT_HELP", "main"]

AGENT_HELP = "Run on a board: compute for a PC that trains with --device agent:HOST."


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C; exit code 2 for a user-correctable error."""
    options = _parser().parse_args(arguments)
    try:  # as a socket does; caught here alone, so that no fault of serving passes for a wrong address
        options.bind.encode("idna")
    except UnicodeError as error:
        sys.stderr.write(_cannot_serve(options, str(error)))
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _interrupt)
    try:
        _serve(options)
    except (ConfigError, DeviceError, OverlayError) as error:
        sys.stderr.write(f"e2train: {' '.join(str(error).split())}\n")
        return 2
    except _CannotServeError as error:
        sys.stderr.write(_cannot_serve(options, str(error)))
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"e2train: {where}{error.strerror or error}\n")
        return 2
    except KeyboardInterrupt:
        pass
    return 0


class _CannotServeError(Exception):
    """An address that cannot be listened on, and why."""


def _interrupt(number: int, frame: object) -> NoReturn:
    """What else ends the agent, such as systemd, ends it as Ctrl-C does."""
    raise KeyboardInterrupt


def _serve(options: argparse.Namespace) -> None:
    config = load_config(options.board)
    token_file = Path(options.token_file)
    token = make_token(token_file, warn=_warn)
    device = open_device(options.device, config=options.board, overlay=options.overlay)

    def resident() -> ResidentDevice:
        if options.device.partition(":")[0] != "pynq":
            return open_resident(options.device, config=options.board)
        from e2train.devices.chains.board import BoardResident
        from e2train.devices.pynq import PynqDevice

        assert isinstance(device, PynqDevice)
        return BoardResident(device)

    with device:
        try:
            server = AgentServer(
                device,
                config,
                token=token,
                bind=options.bind,
                port=options.port,
                most_bytes=options.max_mb << 20,
                open_resident=resident,
            )
        except OSError as error:
            raise _CannotServeError(error.strerror or str(error)) from error
        with server:
            if not is_loopback(options.bind):
                _warn(
                    f"everybody who reaches {options.bind} and has the token can use this board; "
                    "what is sent is not encrypted"
                )
            print(f"agent for {config.name} on {options.bind}:{server.server_port}", flush=True)
            print(f"the PC needs the token in {token_file}", flush=True)
            server.serve_forever()


def _cannot_serve(options: argparse.Namespace, reason: str) -> str:
    where = f"{ascii(options.bind)[1:-1]}:{options.port}"
    return f"e2train: cannot serve on {where}: {' '.join(reason.split())}\n"


def _warn(text: str) -> None:
    sys.stderr.write(f"e2train: {text}\n")


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"e2train: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="e2train board agent",
        description=AGENT_HELP,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--device", default="pynq", help="what computes; pynq is this board")
    parser.add_argument("--board", default="pynq_z2", choices=config_names(), help="configuration")
    parser.add_argument("--overlay", default="", metavar="FILE.zip", help="overlay archive for this board")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 for all networks")
    parser.add_argument("--port", type=_number(0, 65535), default=7968, help="0 picks a free port")
    parser.add_argument("--token-file", default=default_token_file(), help="created if missing")
    parser.add_argument(
        "--max-mb",
        type=_number(1, 1 << 20),
        default=256,
        help="most MiB that a request, one of its operands or its result may take",
    )
    return parser


def _number(low: int, high: int) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        if not text.isdecimal() or len(text) > 10 or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, not {text[:40]}")
        return int(text)

    return parsed
