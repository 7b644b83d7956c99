# SPDX-License-Identifier: Apache-2.0
"""The C++ compiler: the clang inside the ``ziglang`` package; the system's g++ links what it compiled."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path

from e2hls.base.cache import cache_dir
from e2hls.base.errors import HlsError, Loc
from e2hls.sources import source_folder

__all__ = [
    "INCLUDE_DIR",
    "SHARED_LIBRARY",
    "WARNINGS",
    "compiler_id",
    "link_shared",
    "run_clang",
    "system_library",
]

INCLUDE_DIR = source_folder("hls/include")
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-Wno-unused-label",
    "-Wno-unused-command-line-argument",  # zig adds options of its own
)
_LIBRARIES = (str(INCLUDE_DIR), "/usr/")  # where no user's code is
# g++'s options for a library that loads into any Python, whatever C++ library that has loaded before; what
# is missing in it is an error at once.
SHARED_LIBRARY = ("-shared", "-pthread", "-static-libstdc++", "-static-libgcc", "-Wl,-z,defs")
_WARNING = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): warning: (?P<text>.*)$", re.M)
_DIAGNOSTIC = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?P<kind>(?:fatal )?error|note): (?P<text>.*)$", re.M
)


@cache
def _zig() -> Path:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise HlsError("no C++ compiler: the Python package ziglang is missing; pip install 'e2train[sim]'")
    zig = Path(next(iter(spec.submodule_search_locations))) / ("zig.exe" if os.name == "nt" else "zig")
    if not zig.is_file():
        raise HlsError(f"no C++ compiler: {zig} is missing; reinstall the Python package ziglang")
    return zig


@cache
def compiler_id() -> str:
    """What identifies the compiler in a build's hash."""
    zig = _zig()
    return f"{zig.parent.name} {zig.stat().st_size}"


def run_clang(arguments: Sequence[str | Path]) -> list[tuple[Loc, str]]:
    """Run ``clang++`` with these arguments; what it warns of in the user's own code.

    Raises: HlsError with the first error that it reports.
    """
    command = [str(_zig()), "c++", *map(str, arguments)]
    # zig keeps what it compiled in a cache of its own.
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache_dir() / "zig")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise HlsError(f"cannot run {command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise _first_error(done.stderr)
    return [
        (Loc(found["file"], int(found["line"]), int(found["column"])), found["text"])
        for found in _WARNING.finditer(done.stderr)
        if not found["file"].startswith(_LIBRARIES)
    ]


@cache
def system_library() -> tuple[str, ...]:
    """Options by which clang compiles against g++'s C++ library: zig's own takes minutes to build.

    Raises: HlsError when there is no g++.
    """
    shown = _run_gxx(["-E", "-Wp,-v", "-x", "c++", os.devnull, "-o", os.devnull])
    folders = [line.strip() for line in shown.splitlines() if line.startswith(" /") and "c++" in line]
    # Not -isystem: these headers must be found before the C headers that zig adds.
    return ("-nostdinc++", *(f"-I{folder}" for folder in folders))


def link_shared(objects: Sequence[Path], library: Path) -> None:
    """Make a shared library of objects that were compiled against ``system_library``.

    Raises: HlsError when there is no g++, or with its first error.
    """
    _run_gxx([*SHARED_LIBRARY, *map(str, objects), "-o", str(library)])


def _run_gxx(arguments: Sequence[str]) -> str:
    """Run g++; what it printed to stderr."""
    try:
        # Its messages are searched for English words.
        environment = os.environ | {"LC_ALL": "C"}
        done = subprocess.run(
            ["g++", *arguments], capture_output=True, text=True, env=environment, check=False
        )
    except OSError:
        raise HlsError("no g++ on PATH: it links compiled kernels (apt install build-essential)") from None
    if done.returncode != 0:
        raise HlsError(f"g++ failed: {(done.stderr.strip().splitlines() or ['no message'])[0]}")
    return done.stderr


def _first_error(text: str) -> HlsError:
    """The first error, at the first place that leads to it from outside of the stand-in headers."""
    found = list(_DIAGNOSTIC.finditer(text))
    first = next((at for at, each in enumerate(found) if each["kind"] != "note"), None)
    if first is None:
        lines = [line for line in text.splitlines() if line.strip()]
        return HlsError(f"clang failed: {lines[0] if lines else 'no message'}")
    notes = takewhile(lambda each: each["kind"] == "note", found[first + 1 :])
    places = [found[first], *(note for note in notes if "requested here" in note["text"])]
    place = next((each for each in places if not each["file"].startswith(_LIBRARIES)), found[first])
    message = re.sub(r"^static assertion failed(?: due to requirement '.*')?: ", "", found[first]["text"])
    return HlsError(message, Loc(place["file"], int(place["line"]), int(place["column"])))
