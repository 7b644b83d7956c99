# SPDX-License-Identifier: Apache-2.0
"""What README and docs show: their Python runs, commands exist with the options given, messages are real."""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import e2train
import pytest
import tomli
import typer
import yaml
from e2hls.frontend import pragmas
from e2train.cli.agent import _parser as agent_parser
from e2train.cli.app import app
from e2train.config import load_config
from e2train.devices import _CLASSES
from packaging.specifiers import SpecifierSet
from pages import FOLDERS, PAGES, REASONS, ROOT, blocks, section, spans, untested

COMMANDS = sorted(
    {command for page in PAGES for block in blocks(page, "bash") for command in block.commands}
    | {span for page in PAGES for span in spans(page)}
)
E2TRAIN = [command for command in COMMANDS if re.match(r"e2train |torchrun .* -m e2train ", command)]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", [name for name in PAGES if not blocks(name, "cpp")])
def test_python_runs(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page one after the other; one with prompts must print what it shows.

    Pages with kernels are in tests/rtl/test_docs_kernels.py.
    """
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    for block in blocks(name, "python"):
        if ">>>" not in block.text:
            exec(compile(block.text, name, "exec"), found)
            continue
        example = doctest.DocTestParser().get_doctest(block.text, found, name, name, None)
        runner = doctest.DocTestRunner(verbose=False)
        failures = runner.run(example, clear_globs=False).failed
        found.update(example.globs)
        assert not failures, capsys.readouterr().out


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[name])
    assert [target for target in targets if not (FOLDERS[name] / target).exists()] == []


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_are_there(name: str) -> None:
    """Paths from the checkout's root, or from the package's."""
    named = re.findall(r"`((?:\w+/)+\w[\w*.]*)`", PAGES[name])
    roots, tops = (ROOT, ROOT / "host" / "e2train"), ("build", "runs", "my_board")
    missing = [
        path
        for path in named
        if not any(part in tops for part in path.split("/")) and not any([*root.glob(path)] for root in roots)
    ]
    assert missing == []


def test_pragmas_are_those_of_the_flow() -> None:
    listed = section("hls.md", "## Pragmas")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", listed, re.MULTILINE))
    (silent,) = re.findall(r"^(.*) are accepted and change nothing", listed, re.MULTILINE)
    (hints,) = re.findall(r"^(.*) are hints: they change nothing, and a note says so", listed, re.MULTILINE)
    assert set(rows) == set(pragmas.OPTIONS)
    assert set(re.findall(r"`(\w+)`", silent)) == pragmas.SILENT
    assert set(re.findall(r"`(\w+)`", hints)) == pragmas.HINTS
    for name, options in rows.items():
        named = {each.upper() for each in re.findall(r"`[^`]*?(\w+)=", options)}
        assert named <= pragmas.OPTIONS[name], name
        words = re.findall(r"`(\w+)`", options)
        assert set(words) <= pragmas.WORDS.get(name, frozenset()), name


@pytest.mark.parametrize("command", E2TRAIN)
def test_command_exists(command: str) -> None:
    words = shlex.split(command.partition("e2train ")[2], comments=True)
    if words[:2] == ["board", "agent"]:
        agent_parser().parse_args(words[2:])
        return
    found = typer.main.get_command(app)
    while hasattr(found, "commands") and words:
        found, words = found.commands[words[0]], words[1:]
    if words and "--help" not in words:  # else it is named in a sentence
        found.make_context(found.name, words)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in E2TRAIN])
def test_other_command_is_known(command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert words[1] in make_targets()
    elif words[0] == "python" and words[1].startswith("scripts/"):
        assert (ROOT / words[1]).is_file()
    else:
        files = {block.file for page in PAGES for block in blocks(page)}
        script = re.fullmatch(r"PYNQ_REMOTE_DEVICES=127\.0\.0\.1 python (\w+\.py)", command)
        assert (script and script[1] in files) or re.match(
            r"(PYNQ_REMOTE=1 )?pip install|jupyter lab |source .venv/bin/activate|pytest ", command
        )


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_one_that_tests_find(name: str) -> None:
    assert untested(PAGES[name]) == []


@pytest.mark.parametrize(
    "planted",
    [
        "```sh\nls\n```",
        "```\ne2train train digits\n```",
        "```console\n$ ls\n```",
        '```bash title="first"\nls\n```',
        "~~~bash\nls\n~~~",
        "- A list\n\n  ```bash\n  ls\n  ```",
        "- ```bash\n  ls\n  ```",
        "    e2train train digits",
        "<pre>ls</pre>",
        "```cpp\nint x;\n```",
        "```text\n$ ls\n```",
        "```text\ne2train train digits\n```",
        "```bash\nls",
    ],
)
def test_a_block_that_no_test_would_find_is_noticed(planted: str) -> None:
    assert untested(f"Text\n\n```bash\nls\n```\n\n{planted}\n") != []


@pytest.mark.parametrize("name", PAGES)
def test_what_is_not_run_says_why(name: str) -> None:
    marked = [block.comment for block in blocks(name) if block.comment]
    assert set(marked) <= {"background", *(f"not run: {reason}" for reason in REASONS)}


@pytest.mark.parametrize("name", PAGES)
def test_settings_in_toml_are_of_a_configuration(name: str, tmp_path: Path) -> None:
    for block in blocks(name, "toml"):
        path = tmp_path / "boards.toml"
        path.write_text(block.text, encoding="utf-8")
        for board in tomli.loads(block.text):
            assert load_config(board, path).name == board


def _texts() -> set[str]:
    """All texts in the sources, with a NUL for every value that is put in."""
    found = set()
    for path in (path for root in ("host", "hls/e2hls", "sim/e2sim") for path in (ROOT / root).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_messages_are_those_of_the_code() -> None:
    messages = re.findall(r"^`(.+)`$", PAGES["troubleshooting.md"], re.MULTILINE)
    assert len(messages) > 40
    texts = "\n".join(_texts())
    unknown = []
    for message in messages:
        parts = [re.escape(part) for part in message.split("...")]
        if not re.search("[^\n]{0,200}".join(parts), texts):
            unknown.append(message)
    assert unknown == []


def test_the_contracts_name_every_device() -> None:
    """Who takes whole tensors, and who takes words."""
    table = section("architecture.md", "## The contracts of a device")
    (cells,) = re.findall(r"^\| who \|(.*)\|(.*)\|$", table, re.MULTILINE)
    classes = {name: getattr(import_module(module), of) for name, (module, of) in _CLASSES.items()}
    for method, cell in zip(("compute", "transfer"), cells, strict=True):
        having = {name for name, device in classes.items() if hasattr(device, method)}
        assert set(re.findall(r"`(\w+)`", cell)) == having


def test_the_documentation_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("api.html", "notebooks/compare_energy.html", "troubleshooting.html"):
        assert (tmp_path / name).is_file()


def test_the_workflow_calls_make_on_every_python() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert {command.removeprefix("make ") for command in commands} <= make_targets()
    assert {"make test", "make lint", "make docs", "make train", "make test-slow"} <= set(commands)
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = SpecifierSet(project["requires-python"])
    assert jobs["test"]["strategy"]["matrix"]["python"] == [
        version for minor in range(20) if (version := f"3.{minor}") in supported
    ]


def test_hooks_call_tools_that_are_installed() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    assert programs == {"codespell", "mypy", "python", "ruff"}
    assert all((Path(sys.executable).parent / program).exists() for program in programs)
    (clang_format,) = [hook for hook in hooks if hook["id"] == "clang-format"]
    variables = {
        line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if line[:3] == "CPP"
    }
    for pattern in re.findall(r"wildcard (.*)\)", variables.pop())[0].split():
        for path in ROOT.glob(pattern):
            assert re.search(clang_format["files"], str(path.relative_to(ROOT)))


def test_a_reader_of_all_pages_is_not_refused_a_folder() -> None:
    """A finished run is not replaced, so no two commands may train into one folder."""
    folders = [
        found[1]
        for page in PAGES
        for block in blocks(page, "bash")
        for command in block.commands
        if (found := re.search(r"e2train train .*--out (\S+)", command))
    ]
    assert len(folders) > 10
    assert sorted({*folders}) == sorted(folders)


def test_the_wheel_has_the_version_of_the_package() -> None:
    named = {version for text in PAGES.values() for version in re.findall(r"e2train-([\d.]+)-py3", text)}
    assert named == {e2train.__version__}


def test_there_is_something_to_test() -> None:
    assert {"README.md", "numerics.md", "quickstart.md", "board.md"} <= set(PAGES)
    for name in ("README.md", "numerics.md", "architecture.md"):
        assert blocks(name, "python")
    assert len(E2TRAIN) > 30
    assert any(block.background for block in blocks("board.md"))


@pytest.mark.parametrize("name", ["architecture", "slu_block"])
def test_diagrams_are_those_of_the_script(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import draw_docs

    monkeypatch.setattr(draw_docs, "IMAGES", tmp_path)
    monkeypatch.setitem(draw_docs.matplotlib.rcParams, "svg.fonttype", "none")
    parts = {
        "architecture": (draw_docs.ARCHITECTURE, draw_docs.ARCHITECTURE_ARROWS),
        "slu_block": (draw_docs.BLOCK, draw_docs.BLOCK_ARROWS),
    }
    draw_docs.draw_boxes(name, *parts[name])
    drawn, kept = (
        re.findall(r"<text[^>]*>([^<]*)", (folder / f"{name}.svg").read_text(encoding="utf-8"))
        for folder in (tmp_path, ROOT / "docs" / "images")
    )
    assert len(kept) > 5
    assert drawn == kept
