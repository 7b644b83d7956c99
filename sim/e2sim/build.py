# SPDX-License-Identifier: Apache-2.0
"""Build the SoC, a shared library, around a kernel's RTL."""

from __future__ import annotations

import shutil
from pathlib import Path

from e2hls.base.cache import cached, content_key
from e2hls.base.clang import SHARED_LIBRARY, system_library
from e2hls.simulation.toolchain import EXACT, JOBS, LINKS, RUNTIME, WITHOUT_RUNTIME, Rtl, Toolchain, machine
from e2hls.sources import source_folder
from e2hls.xls_verilog import lanes, wide_outputs

__all__ = ["build_soc"]

_SOURCES = source_folder("sim/soc")
_LIBRARY = "libsoc.so"
_COMMON = ("-j", str(JOBS), "--assert", "-O3", "--no-timing", "-Wno-fatal")
_VERILATOR = (
    *("--cc", "--exe", "--build", "--prefix", "Vkernel"),
    # Registers power up to values drawn from the SoC's seed, as a missing reset would show.
    *("--x-assign", "fast", "--x-initial", "unique"),
    *("--output-split", "20000", "-o", f"../{_LIBRARY}"),
)
_ACTIVITY = ("--trace-saif",)
_MAKE = (
    *("OPT_FAST=-O3", "OPT_SLOW=-O1", "OPT_GLOBAL=-O2"),
    *(f"CXX=../{LINKS}/zig/zig c++", "LINK=g++"),
)
# What the kernel prints goes to stderr: stdout belongs to the program that uses the SoC.
# clang's code for this machine runs such a kernel at about twice the speed of g++'s.
_CXX = (
    "'-DVL_PRINTF(...)=fprintf(stderr,__VA_ARGS__)' -fPIC -std=c++17 -mcpu=native -fno-sanitize=all "
    "-DVL_USER_STOP -DVL_USER_FATAL -I.."
)


def build_soc(design: Rtl, *, activity: bool = False, control: bool = False) -> Path:
    """Compile the SoC with ``design`` as its kernel; the same design is compiled once.

    With ``activity`` it can count how often the kernel's signals switch, and is slower. Without, like
    lanes are arrays and loops, and wide words between processes have a value only while they are valid.
    With ``control`` the kernel has registers of its own, behind ``s_axi_control``.

    Raises: SimulationError when a tool is missing or the RTL does not compile; HlsError when g++ fails.
    """
    tools = Toolchain.find()
    sources = sorted(_SOURCES.glob("*.cpp"))
    headers = sorted(_SOURCES.glob("*.hpp"))
    inputs = [*sources, *headers, *design.sv_files, Path(wide_outputs.__file__)]
    inputs += sorted(Path(lanes.__file__).parent.glob("*.py"))
    common = (*_COMMON, *(_ACTIVITY if activity else ()))
    flags = (*(("-DSOC_ACTIVITY",) if activity else ()), *(("-DSOC_CONTROL",) if control else ()))
    cxx = " ".join((_CXX, *system_library(), *flags))
    key = content_key(
        "soc", design.name, EXACT, _VERILATOR, common, _MAKE, cxx, SHARED_LIBRARY, machine(), *inputs
    )

    def build(directory: Path) -> None:
        for source in (*sources, *headers):
            shutil.copy(source, directory)
        for file in design.sv_files:
            text = file.read_text(encoding="utf-8")
            if not activity:
                text = lanes.roll_lanes(wide_outputs.pack_when_valid(text))
            (directory / file.name).write_text(text, encoding="utf-8")
        runtime = tools.runtime((*common, "-CFLAGS", cxx), make=_MAKE, key=(machine(),))
        arguments = [*_VERILATOR, *common, "--top-module", design.name, "-CFLAGS", cxx]
        arguments += ["-LDFLAGS", " ".join((*SHARED_LIBRARY, RUNTIME))]
        files = [file.name for file in (*design.sv_files, *sources)]
        make, links = (*_MAKE, *WITHOUT_RUNTIME), {"runtime.a": runtime}
        tools.verilate([*arguments, *files], directory=directory, make=make, links=links)
        shutil.rmtree(directory / "obj")

    return cached("soc", key, build) / _LIBRARY
