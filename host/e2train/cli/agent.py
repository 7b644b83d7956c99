# SPDX-License-Identifier: Apache-2.0
"""``e2train board agent``, which must run where NumPy and pynq are all there is: argparse, no typer."""

from __future__ import annotations

import argparse
import ipaddress
import sys
from pathlib import Path

from e2train.config import ConfigError, config_names, load_config
from e2train.devices import DeviceError, open_device
from e2train.devices.agent_wire import default_token_file
from e2train.overlay import OverlayError
from e2train.runtime.agent import AgentServer, make_token

__all__ = ["AGENT_HELP", "main"]

AGENT_HELP = "Run on a board: compute convolutions for a PC that trains with --device agent:HOST."


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C; exit code 2 for what the user can mend."""
    options = _parser().parse_args(arguments)
    try:
        _serve(options)
    except (ConfigError, DeviceError, OverlayError) as error:
        sys.stderr.write(f"e2train: {' '.join(str(error).split())}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"e2train: cannot serve on {options.bind}:{options.port}: {error.strerror}\n")
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _serve(options: argparse.Namespace) -> None:
    config = load_config(options.board)
    token_file = Path(options.token_file).expanduser()
    token = make_token(token_file)
    device = open_device(options.device, config=options.board, overlay=options.overlay)
    with device:
        server = AgentServer(
            device,
            config,
            token=token,
            bind=options.bind,
            port=options.port,
            most_bytes=options.max_mb << 20,
        )
        with server:
            if not _is_loopback(options.bind):
                sys.stderr.write(
                    f"e2train: everybody who reaches {options.bind} and has the token can use this board; "
                    "what is sent is not encrypted\n"
                )
            print(f"agent for {config.name} on {options.bind}:{server.server_port}", flush=True)
            print(f"the PC needs the token in {token_file}", flush=True)
            server.serve_forever()


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="e2train board agent",
        description=AGENT_HELP,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--device", default="pynq", help="what computes; pynq is this board")
    parser.add_argument("--board", default="pynq_z2", choices=config_names(), help="configuration")
    parser.add_argument("--overlay", default="", metavar="FILE.zip", help="overlay archive for this board")
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 for all networks")
    parser.add_argument("--port", type=int, default=7968, help="0 takes a free one")
    parser.add_argument("--token-file", default=default_token_file(), help="made where it is not there")
    parser.add_argument("--max-mb", type=int, default=256, help="largest request")
    return parser
