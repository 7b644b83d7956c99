# SPDX-License-Identifier: Apache-2.0
"""Write the pages of settings and of a run's files from fields of records and the comments beside them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

from e2train.numerics.psg import PSG_MODES
from e2train.train.config import CHOICES, RANGES, RunConfig
from e2train.train.loop import Row
from e2train.train.presets import SETTINGS
from e2train.train.summary import Summary

DOCS = Path(__file__).parents[1] / "docs"
SETTINGS_INTRO = """\
# Settings

<!-- Written by scripts/reference_pages.py from host/e2train/train/config.py; change that. -->

Every key of a run's `config.toml`, in its order. `e2train train` takes each as `--set KEY=VALUE`, the usual
ones as options of their own (`e2train train --help`), and a `.toml` file in place of a preset's name; a file
needs `preset` alone and takes the rest from it. Numbers that are written without a point are whole.
"""
FILES_INTRO = """\
# Files of a run

<!-- Written by scripts/reference_pages.py from host/e2train/train; change that. -->

The [quickstart](quickstart.md#a-first-run) lists what lies in the folder of a run; these are the keys of the
two files that other programs read.
"""
_FIELD = re.compile(r"^    (\w+): [\w\[\], |]+(?: = [^#]*)?\s*(?:# (.*))?$")
_UNBOUNDED = float("inf")


def comments(record: type) -> dict[str, str]:
    """What comments say of each field of a dataclass: the one beside it, behind those above it."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(record).splitlines():
        if line.startswith("    # "):
            above.append(line[6:].rstrip("."))
        elif field := _FIELD.match(line):
            said = " ".join(filter(None, (*above, field[2])))
            found[field[1]] = said[:1].lower() + said[1:]
            above = []
    return found


def allowed(name: str) -> str:
    """The values that a setting may have, as far as they are listed."""
    if name in ("preset", "method"):
        return f"[{name}s](training.md#{name}s)"
    choices = {**CHOICES, "psg_mode": PSG_MODES}.get(name, ())
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if name not in RANGES:
        return ""
    lowest, highest = RANGES[name]
    if highest == _UNBOUNDED or highest >= (1 << 31) - 1:
        return f"{lowest:g} or more"
    return f"{lowest:g} to {highest:g}"


def preset_rows() -> Iterator[str]:
    """What presets have in place of the defaults, those with the same together."""
    alike: dict[str, list[str]] = {}
    default = asdict(RunConfig(preset="digits"))
    for name, settings in SETTINGS.items():
        other = {key: value for key, value in settings.items() if default[key] != value}
        text = ", ".join(f"`{key}={value}`" for key, value in sorted(other.items()))
        alike.setdefault(text, []).append(name)
    for text, names in alike.items():
        yield f"| {', '.join(f'`{name}`' for name in names)} | {text} |"


def settings_text() -> str:
    """The page of settings."""
    said = comments(RunConfig)
    lines = [SETTINGS_INTRO, "| setting | default | values | |", "| --- | --- | --- | --- |"]
    for field in fields(RunConfig):
        value = "" if field.name == "preset" else json.dumps(field.default)
        default = f"`{value}`" if value not in ("", '""') else ""
        lines.append(f"| `{field.name}` | {default} | {allowed(field.name)} | {said[field.name]} |")
    lines += ["", "## What presets change", "", "| preset | in place of the default |", "| --- | --- |"]
    return "\n".join([*lines, *preset_rows()]) + "\n"


def files_text() -> str:
    """The page of a run's files."""
    lines = [FILES_INTRO]
    for name, record in (("metrics.jsonl", Row), ("summary.json", Summary)):
        lines += [f"## `{name}`", "", "| key | |", "| --- | --- |"]
        lines += [f"| `{key}` | {said} |" for key, said in comments(record).items()]
        lines.append("")
    lines.append("`null` means: not measured, or it does not apply. It never means 0.")
    return "\n".join(lines) + "\n"


PAGES = {"settings.md": settings_text, "run_files.md": files_text}

if __name__ == "__main__":
    for page, text in PAGES.items():
        (DOCS / page).write_text(text(), encoding="utf-8")
