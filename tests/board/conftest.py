# SPDX-License-Identifier: Apache-2.0
"""Simulated boards, in processes of their own, for the unmodified pynq client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agents import TOKEN
from e2sim import build_soc
from e2train.config import load_config
from e2train.devices.build import engine_rtl
from e2train.overlay import load_board, simulated_overlay, write_overlay
from serving import Served, served


@pytest.fixture(scope="session")
def overlay(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The archive of a simulated overlay; its logic is built here, where a compiler error is seen."""
    folder = tmp_path_factory.mktemp("overlays")

    def make(board: str) -> Path:
        build_soc(engine_rtl(load_config(board)))
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


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A PC's copy of an agent's token."""
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(TOKEN)
    return path
