# SPDX-License-Identifier: Apache-2.0
"""Write docs/settings.md from the fields of RunConfig, the comments beside them, and the presets."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

from e2train.numerics.psg import PSG_MODES
from e2train.train.config import CHOICES, RANGES, RunConfig
from e2train.train.presets import SETTINGS

TARGET = Path(__file__).parents[1] / "docs/settings.md"
INTRO = """\
# Settings

<!-- Written by scripts/settings_page.py from host/e2train/train/config.py; change that. -->

Every key of a run's `config.toml`, in its order. `e2train train` takes each as `--set KEY=VALUE`, the usual
ones as options of their own (`e2train train --help`), and a `.toml` file in place of a preset's name; a file
needs `preset` alone and takes the rest from it. Numbers that are written without a point are whole.
"""
_FIELD = re.compile(r"^    (\w+): \w+(?: = [^#]*)?\s*(?:# (.*))?$")
_UNBOUNDED = float("inf")


def comments() -> dict[str, str]:
    """What the comments of RunConfig say of each field: the one beside it, behind those above it."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(RunConfig).splitlines():
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


def text() -> str:
    """The whole page."""
    said = comments()
    lines = [INTRO, "| setting | default | values | |", "| --- | --- | --- | --- |"]
    for field in fields(RunConfig):
        value = "" if field.name == "preset" else json.dumps(field.default)
        default = f"`{value}`" if value not in ("", '""') else ""
        lines.append(f"| `{field.name}` | {default} | {allowed(field.name)} | {said[field.name].strip()} |")
    lines += ["", "## What presets change", "", "| preset | in place of the default |", "| --- | --- |"]
    return "\n".join([*lines, *preset_rows()]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
