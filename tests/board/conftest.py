# SPDX-License-Identifier: Apache-2.0
"""Simulated boards, in processes of their own, for the unmodified pynq client."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2hls import build_rtl
from e2sim import build_soc
from e2train.config import load_config
from e2train.devices.build import engine_kernel
from e2train.overlay import load_board, simulated_overlay, write_overlay

E2TRAIN = (sys.executable, "-m", "e2train")


@dataclass(frozen=True, kw_only=True)
class Served:
    """A process that serves something."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@contextmanager
def served(*command: str) -> Iterator[Served]:
    """Run a serving command until the end; its first line tells the address."""
    process = subprocess.Popen(
        [*E2TRAIN, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        match = re.search(r" on (\S+:\d+)$", line.strip())
        assert match, f"{command}: {line!r} {process.stderr.read() if not line else ''}"
        yield Served(process=process, address=match[1])
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="session")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The archive of a simulated overlay; its logic is built here, where a compiler error is seen."""
    folder = tmp_path_factory.mktemp("overlays")

    def make(board: str) -> Path:
        build_soc(build_rtl(engine_kernel(load_config(board))))
        return write_overlay(simulated_overlay(load_board(board), source_sha256="0" * 64), folder)

    return make


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start simulated boards that end with the test."""
    with ExitStack() as stack:

        def start(board: str, *options: str, port: int = 0) -> Served:
            return stack.enter_context(
                served("board", "serve", "--board", board, "--port", str(port), *options)
            )

        yield start
