# SPDX-License-Identifier: Apache-2.0
"""What a kernel takes of its part, and how deep the logic of each of its pipeline stages is."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2hls.base.cache import cached, content_key
from e2hls.base.errors import HlsError
from e2hls.base.rtl_design import RtlDesign, RtlReport
from e2hls.report import timing, yosys
from e2hls.report.path_terms import in_kernel_terms
from e2hls.report.timing import StagePath

__all__ = ["TIMING_NOTE", "Cells", "KernelReport", "PartBudget", "Usage", "report"]

TIMING_NOTE = (
    "Cells by Yosys, 7-series ones on every part; delays are assumptions per cell and net. "
    "Timing closure is unproven. No vendor timing was run: whether the clock is met is known only after "
    "Vivado's place and route."
)
_LUTS = {
    **{f"LUT{inputs}": 1 for inputs in range(1, 7)},
    **dict.fromkeys(("INV", "SRL16E", "SRLC16E", "SRLC32E", "RAM32X1S", "RAM64X1S"), 1),
    **dict.fromkeys(("RAM32X1D", "RAM64X1D", "RAM128X1S"), 2),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D", "RAM256X1S"), 4),
    **dict.fromkeys(("RAM32M16", "RAM64M8", "RAM256X1D", "RAM512X1S"), 8),
}
_FREE = ("MUXF", "CARRY", "BUFG", "GND", "VCC", "$scopeinfo")  # come with the LUTs or the part, or are notes
_SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartBudget:
    """What a part has, and the clock that is asked of it."""

    part: str
    family: str
    period_ns: float
    dsp: int
    bram36: int
    lut: int
    ff: int
    copies: int = 1  # of the kernel, that the part is to hold

    def __post_init__(self) -> None:
        if self.family not in timing.DELAYS:
            raise ValueError(
                f"{self.part}: family must be one of {', '.join(timing.DELAYS)}, not {self.family!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What a kernel takes. A RAMB18 counts as half a RAMB36."""

    dsp: int
    bram36: float
    lut: int
    ff: int
    multipliers: int  # DSPs that multiply
    other: Mapping[str, int]  # cells that no column counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One resource against the part."""

    resource: str
    used: float
    available: int

    @property
    def percent(self) -> float:
        return 100.0 * self.used / self.available

    @property
    def fits(self) -> bool:
        return self.used <= self.available


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelReport:
    """A kernel on a part."""

    kernel: str
    budget: PartBudget
    schedule: RtlReport  # processes with their regions, initiation intervals and stages
    cells: Cells
    paths: tuple[StagePath, ...]  # longest first
    looped_cells: int  # cells on combinational loops, whose paths are not known; 0 in a sound design

    @property
    def usage(self) -> tuple[Usage, ...]:
        """DSP, BRAM36, LUT and FF of all copies against the part."""
        return tuple(
            Usage(
                resource=name,
                used=self.budget.copies * getattr(self.cells, name),
                available=getattr(self.budget, name),
            )
            for name in ("dsp", "bram36", "lut", "ff")
        )

    @property
    def fits(self) -> bool:
        return all(usage.fits for usage in self.usage)

    @property
    def deep_paths(self) -> tuple[StagePath, ...]:
        """Paths whose estimate is longer than the clock period."""
        return tuple(path for path in self.paths if path.estimate_ns > self.budget.period_ns)

    def as_json(self) -> dict[str, Any]:
        """For machines: everything above, in JSON's types."""
        return {
            "kernel": self.kernel,
            "part": self.budget.part,
            "copies": self.budget.copies,
            "period_ns": self.budget.period_ns,
            "usage": {
                usage.resource: {
                    "used": usage.used,
                    "available": usage.available,
                    "percent": round(usage.percent, 1),
                }
                for usage in self.usage
            },
            "fits": self.fits,
            "multipliers": self.cells.multipliers,
            "other_cells": dict(self.cells.other),
            "schedule": dataclasses.asdict(self.schedule),
            "delays_assumed": dataclasses.asdict(timing.DELAYS[self.budget.family]),
            "paths": [dataclasses.asdict(path) for path in self.paths],
            "paths_within_period": not self.deep_paths,
            "looped_cells": self.looped_cells,
            "note": TIMING_NOTE,
        }


def report(design: RtlDesign, budget: PartBudget, *, progress: yosys.Progress | None = None) -> KernelReport:
    """Synthesise a kernel for a part and count; the counts are cached by content.

    Raises: HlsError where Yosys is missing, or rejects the Verilog.
    """
    if not design.verilog_files:
        raise HlsError(f"{design.name} has no plain Verilog to synthesise")
    code = [
        Path(__file__).with_name(f"{module}.py") for module in ("kernel_report", "timing", "wires", "yosys")
    ]
    key = content_key(*design.verilog_files, *code, design.name, budget.family, yosys.yosys_id())

    def build(folder: Path) -> None:
        netlist = yosys.synthesise(design.verilog_files, top=design.name, folder=folder, progress=progress)
        module = json.loads(netlist.read_text())["modules"][design.name]
        paths, looped = timing.longest_paths(module, family=budget.family)
        summary = {
            "cells": dataclasses.asdict(_count(module)),
            "paths": [dataclasses.asdict(path) for path in paths],
            "looped_cells": looped,
        }
        (folder / _SUMMARY).write_text(json.dumps(summary))
        netlist.unlink()  # hundreds of megabytes for the largest engine

    summary = json.loads((cached("report", key, build) / _SUMMARY).read_text())
    terms = design.terms()
    return KernelReport(
        kernel=design.name,
        budget=budget,
        schedule=design.report,
        cells=Cells(**summary["cells"]),
        paths=tuple(_with_terms(StagePath(**path), terms) for path in summary["paths"]),
        looped_cells=summary["looped_cells"],
    )


def _with_terms(path: StagePath, terms: Mapping[str, Mapping[str, str]]) -> StagePath:
    return dataclasses.replace(
        path, start_term=in_kernel_terms(path.start, terms), end_term=in_kernel_terms(path.end, terms)
    )


def _count(module: Mapping[str, Any]) -> Cells:
    kinds = Counter(cell["type"] for cell in module["cells"].values())
    dsps = [cell for cell in module["cells"].values() if cell["type"].startswith("DSP48")]
    counted = {
        kind
        for kind in kinds
        if kind in _LUTS or kind.startswith(("DSP48", "RAMB18", "RAMB36", "FD", "LD", *_FREE))
    }
    return Cells(
        dsp=len(dsps),
        bram36=sum(
            count * (0.5 if kind.startswith("RAMB18") else 1.0)
            for kind, count in kinds.items()
            if kind.startswith("RAMB")
        ),
        lut=sum(_LUTS.get(kind, 0) * count for kind, count in kinds.items()),
        ff=sum(count for kind, count in kinds.items() if kind.startswith(("FD", "LD"))),
        multipliers=sum(cell["parameters"].get("USE_MULT", "MULTIPLY") != "NONE" for cell in dsps),
        other={kind: count for kind, count in sorted(kinds.items()) if kind not in counted},
    )
