# SPDX-License-Identifier: Apache-2.0
"""Build the SoC, a shared library, around a kernel's RTL."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from e2hls.cache import cached, content_key
from e2hls.clang import system_library

from e2sim.toolchain import JOBS, Rtl, Toolchain, machine

__all__ = ["build_soc"]

_SOURCES = Path(__file__).resolve().parents[1] / "soc"
_LIBRARY = "libsoc.so"
_VERILATOR = (
    *("--cc", "--exe", "--build", "-j", str(JOBS)),
    *("--prefix", "Vkernel", "--assert", "-O3", "--no-timing", "-Wno-fatal"),
    # Registers power up to values drawn from the SoC's seed, as a missing reset would show.
    *("--x-assign", "fast", "--x-initial", "unique"),
    *("--output-split", "20000", "--Mdir", "obj", "-o", f"../{_LIBRARY}"),
)
_ACTIVITY = ("--trace-saif",)
# What the kernel prints goes to stderr: stdout belongs to the program that uses the SoC.
# clang's code for this machine runs such a kernel at about twice the speed of g++'s.
_CXX = (
    "'-DVL_PRINTF(...)=fprintf(stderr,__VA_ARGS__)' -fPIC -std=c++17 -mcpu=native -fno-sanitize=all "
    "-DVL_USER_STOP -DVL_USER_FATAL"
)


def build_soc(design: Rtl, *, activity: bool = False) -> Path:
    """Compile the SoC with ``design`` as its kernel; the same design is compiled once.

    With ``activity`` it can count how often the kernel's signals switch, and is slower.

    Raises: SimulationError when a tool is missing or the RTL does not compile.
    """
    tools = Toolchain.find()
    sources = sorted(_SOURCES.glob("*.cpp"))
    inputs = [*sources, *sorted(_SOURCES.glob("*.hpp")), *design.sv_files]
    verilator = (*_VERILATOR, *(_ACTIVITY if activity else ()))
    cxx = " ".join((_CXX, *system_library(), *(("-DSOC_ACTIVITY",) if activity else ())))
    key = content_key("soc", design.name, verilator, cxx, machine(), *inputs)

    def build(directory: Path) -> None:
        make = f"OPT_FAST=-O3 OPT_SLOW=-O1 OPT_GLOBAL=-O2 'CXX={tools.clang}' LINK=g++"
        # The wheel leaves the second one empty: large designs fail.
        make += f" PYTHON3={sys.executable} CFG_CXXFLAGS_PCH_I=-include"
        arguments = [*verilator, "--top-module", design.name, "-CFLAGS", f"{cxx} -I{_SOURCES}"]
        arguments += ["-LDFLAGS", "-shared", "-MAKEFLAGS", make]
        tools.verilate([*arguments, *map(str, [*design.sv_files, *sources])], directory=directory)
        shutil.rmtree(directory / "obj")

    return cached("soc", key, build) / _LIBRARY
