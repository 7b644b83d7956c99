# SPDX-License-Identifier: Apache-2.0
"""The C++ compiler: the clang inside the ``ziglang`` package."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from e2hls.cache import cache_dir
from e2hls.errors import HlsError
from e2hls.ir import Loc

__all__ = ["INCLUDE_DIR", "WARNINGS", "compiler_id", "run_clang"]

INCLUDE_DIR = Path(__file__).resolve().parent.parent / "include"
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-unused-label",
    "-Wno-unused-command-line-argument",  # zig adds options of its own
)
_DIAGNOSTIC = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?:fatal )?error: (?P<text>.*)$", re.M
)


@cache
def _zig() -> Path:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise HlsError("no C++ compiler: the Python package ziglang is missing; install e2train[sim]")
    zig = Path(next(iter(spec.submodule_search_locations))) / ("zig.exe" if os.name == "nt" else "zig")
    if not zig.is_file():
        raise HlsError(f"no C++ compiler: {zig} is missing; reinstall the Python package ziglang")
    return zig


@cache
def compiler_id() -> str:
    """What identifies the compiler in a build's hash."""
    zig = _zig()
    return f"{zig.parent.name} {zig.stat().st_size}"


def run_clang(arguments: Sequence[str | Path]) -> None:
    """Run ``clang++`` with these arguments.

    Raises: HlsError with the first error that it reports.
    """
    command = [str(_zig()), "c++", *map(str, arguments)]
    # zig keeps what it builds once for all (start-up code, the C++ library) in this folder.
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache_dir() / "zig")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise HlsError(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise _first_error(done.stderr)


def _first_error(text: str) -> HlsError:
    found = _DIAGNOSTIC.search(text)
    if found is None:
        lines = [line for line in text.splitlines() if line.strip()]
        return HlsError(f"clang failed: {lines[0] if lines else 'no message'}")
    return HlsError(found["text"], Loc(found["file"], int(found["line"]), int(found["column"])))
