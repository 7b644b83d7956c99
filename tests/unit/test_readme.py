# SPDX-License-Identifier: Apache-2.0
"""What README and docs show: their Python runs, commands exist with the options that they are given."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
import typer
from e2train.cli.app import app

ROOT = Path(__file__).parents[2]
TEXTS = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
}


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[name], re.MULTILINE | re.DOTALL)


def lines_of(start: str) -> list[str]:
    commands = [block for name in TEXTS for block in blocks(name, "bash")]
    return [line for block in commands for line in block.splitlines() if line.startswith(start)]


@pytest.mark.parametrize("name", TEXTS)
def test_python_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks of a text one after the other; one with prompts must print what it shows."""
    found: dict[str, object] = {}
    for block in blocks(name, "python"):
        if ">>>" not in block:
            exec(compile(block, name, "exec"), found)
            continue
        example = doctest.DocTestParser().get_doctest(block, found, name, name, None)
        runner = doctest.DocTestRunner(verbose=False)
        failures = runner.run(example, clear_globs=False).failed
        found.update(example.globs)
        assert not failures, capsys.readouterr().out


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    folder = ROOT if name == "README.md" else ROOT / "docs"
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXTS[name])
    assert [target for target in targets if not (folder / target).exists()] == []


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
    assert all(blocks(name, "python") for name in TEXTS)
    assert "numerics.md" in TEXTS
    assert lines_of(".venv/bin/e2train")
    assert lines_of("make")
