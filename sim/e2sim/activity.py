# SPDX-License-Identifier: Apache-2.0
"""Switching activity out of a SAIF file: how often the bits of each module's signals changed."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from e2hls.simulation.toolchain import SimulationError

__all__ = ["read_toggles"]

_TOKEN = re.compile(r"\(|\)|[^\s()]+")


def read_toggles(path: Path) -> dict[str, int]:
    """Toggles of all bits by module instance, with its path, below the top module's wrapper.

    A signal that several instances share is counted in each of them.
    Raises: SimulationError when the file is not SAIF.
    """
    toggles: dict[str, int] = {}
    scope: list[str | None] = []  # for each open parenthesis: an instance's name, or None
    before: list[str] = ["", "", ""]
    with path.open(encoding="utf-8") as file:
        if "".join(islice(file, 2)).splitlines()[-1:] != ["(SAIFILE"]:  # behind the line of its maker
            raise SimulationError(f"{path} is no SAIF file of Verilator")
        scope.append(None)
        for line in file:
            for token in _TOKEN.findall(line):
                before = [before[1], before[2], token]
                if token == "(":
                    scope.append(None)
                elif token == ")":
                    if not scope:
                        raise SimulationError(f"{path} is damaged: an unmatched closing parenthesis")
                    scope.pop()
                elif before[0] == "(" and before[1] == "INSTANCE":
                    scope[-1] = token
                elif before[0] == "(" and before[1] == "TC":
                    name = "/".join(part for part in scope if part)
                    toggles[name] = toggles.get(name, 0) + int(token)
    return toggles
