# SPDX-License-Identifier: Apache-2.0
"""What the README shows: its Python runs, its commands exist with the options that they are given."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from e2train.cli.app import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def lines_of(start: str) -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith(start)]


@pytest.mark.parametrize("block", blocks("python"))
def test_python_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("line", lines_of(".venv/bin/e2train"))
def test_command_exists(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, words)


@pytest.mark.parametrize("line", lines_of("make"))
def test_make_target_exists(line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert shlex.split(line, comments=True)[1] in targets


def test_there_is_something_to_test() -> None:
    assert blocks("python")
    assert lines_of(".venv/bin/e2train")
    assert lines_of("make")
