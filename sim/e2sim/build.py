# SPDX-License-Identifier: Apache-2.0
"""Build the SoC, a shared library, around a kernel's RTL."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from e2hls.cache import cached, content_key
from e2hls.clang import SHARED_LIBRARY, system_library

from e2sim import lanes, wide_outputs
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

    With ``activity`` it can count how often the kernel's signals switch, and is slower. Without, like
    lanes are arrays and loops, and wide words between processes have a value only while they are valid.

    Raises: SimulationError when a tool is missing or the RTL does not compile; HlsError when g++ fails.
    """
    tools = Toolchain.find()
    sources = sorted(_SOURCES.glob("*.cpp"))
    inputs = [*sources, *sorted(_SOURCES.glob("*.hpp")), *design.sv_files, Path(wide_outputs.__file__)]
    inputs += sorted(Path(lanes.__file__).parent.glob("*.py"))
    verilator = (*_VERILATOR, *(_ACTIVITY if activity else ()))
    cxx = " ".join((_CXX, *system_library(), *(("-DSOC_ACTIVITY",) if activity else ())))
    key = content_key("soc", design.name, verilator, cxx, SHARED_LIBRARY, machine(), *inputs)

    def build(directory: Path) -> None:
        make = f"OPT_FAST=-O3 OPT_SLOW=-O1 OPT_GLOBAL=-O2 'CXX={tools.clang}' LINK=g++"
        # The wheel leaves the second one empty: large designs fail.
        make += f" PYTHON3={sys.executable} CFG_CXXFLAGS_PCH_I=-include"
        arguments = [*verilator, "--top-module", design.name, "-CFLAGS", f"{cxx} -I{_SOURCES}"]
        arguments += ["-LDFLAGS", " ".join(SHARED_LIBRARY), "-MAKEFLAGS", make]
        rtl = [directory / source.name for source in design.sv_files]
        for source, copy in zip(design.sv_files, rtl, strict=True):
            text = source.read_text(encoding="utf-8")
            if not activity:
                text = lanes.roll_lanes(wide_outputs.pack_when_valid(text))
            copy.write_text(text, encoding="utf-8")
        tools.verilate([*arguments, *map(str, [*rtl, *sources])], directory=directory)
        shutil.rmtree(directory / "obj")

    return cached("soc", key, build) / _LIBRARY
