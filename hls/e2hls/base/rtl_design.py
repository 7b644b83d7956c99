# SPDX-License-Identifier: Apache-2.0
"""What the back end is asked for and what it gives: options, files and a report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = [
    "FAMILIES",
    "REPORT_FILE",
    "TERMS_FILE",
    "FifoReport",
    "PortReport",
    "ProcessReport",
    "RegionReport",
    "RtlDesign",
    "RtlOptions",
    "RtlReport",
]

FAMILIES = ("xc7", "xcup")
REPORT_FILE = "report.json"
TERMS_FILE = "terms.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RtlOptions:
    """How the hardware shall be made."""

    period_ns: float = 10.0
    family: str = "xc7"  # of the part that the period is meant for
    pipeline_stages: int | None = None  # of every process; None: as few as the period allows

    def __post_init__(self) -> None:
        if self.period_ns <= 0:
            raise ValueError(f"period_ns must be positive, not {self.period_ns}")
        if self.family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {self.family!r}")
        if self.pipeline_stages is not None and self.pipeline_stages < 1:
            raise ValueError(f"pipeline_stages must be at least 1, not {self.pipeline_stages}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortReport:
    """One stream of the top module; ``data_bits`` without TLAST and ``sides``, which ``axis`` ports have."""

    name: str
    data_bits: int
    axis: bool
    output: bool
    sides: tuple[tuple[str, int], ...] = ()  # side channels with pins, and their widths

    @property
    def word_bits(self) -> int:
        """Bits of a whole word: data, TLAST and side channels, lowest first."""
        return self.data_bits + self.axis + sum(width for _, width in self.sides)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionReport:
    """One loop, or the entry, of a process."""

    name: str
    ii: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """One process; ``period_ps`` is the period of the delay model at which it was scheduled."""

    name: str
    module: str
    ii: int
    pipeline_stages: int
    period_ps: int
    regions: tuple[RegionReport, ...]
    multipliers: int
    state_bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FifoReport:
    """A stream and the processes at its ends, "" for a port.

    ``arrays`` are those that it hands over, ``scalar`` the variable whose value it carries.
    """

    name: str
    depth: int
    writer: str
    reader: str
    arrays: tuple[str, ...] = ()
    scalar: str = ""

    def __str__(self) -> str:
        if self.scalar:
            return f"scalar {self.scalar}"
        return f"array {' and '.join(self.arrays)}" if self.arrays else f"stream {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RtlReport:
    """The design as a whole; ``rams`` gives (name, depth, width), ``notes`` what to know of the source."""

    ports: tuple[PortReport, ...]
    processes: tuple[ProcessReport, ...]
    rams: tuple[tuple[str, int, int], ...]
    fifos: tuple[FifoReport, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def multipliers(self) -> int:
        return sum(process.multipliers for process in self.processes)

    @property
    def state_bits(self) -> int:
        return sum(process.state_bits for process in self.processes)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> RtlReport:
        raw = json.loads(text)
        return cls(
            ports=tuple(_port(port) for port in raw["ports"]),
            processes=tuple(_process(process) for process in raw["processes"]),
            rams=tuple((name, depth, width) for name, depth, width in raw["rams"]),
            fifos=tuple(FifoReport(**each | {"arrays": tuple(each["arrays"])}) for each in raw["fifos"]),
            notes=tuple(raw["notes"]),
        )


def _port(raw: dict[str, Any]) -> PortReport:
    return PortReport(**raw | {"sides": tuple((side, width) for side, width in raw["sides"])})


def _process(raw: dict[str, Any]) -> ProcessReport:
    regions = tuple(RegionReport(**region) for region in raw["regions"])
    rest = {field.name: raw[field.name] for field in fields(ProcessReport) if field.name != "regions"}
    return ProcessReport(regions=regions, **rest)


@dataclass(frozen=True, slots=True)
class RtlDesign:
    """Generated RTL: the top module is ``name``; ``sv_files`` carry assertions, ``verilog_files`` do not."""

    name: str
    directory: Path
    sv_files: tuple[Path, ...]
    verilog_files: tuple[Path, ...]
    report: RtlReport

    def terms(self) -> dict[str, dict[str, str]]:
        """By module and name of a value in it: what the value is in the kernel, as far as it is known."""
        path = self.directory / TERMS_FILE
        found: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.is_file() else {}
        return found

    @classmethod
    def load(cls, name: str, directory: Path) -> RtlDesign:
        """The design that ``generate`` left in ``directory``."""
        return cls(
            name=name,
            directory=directory,
            sv_files=tuple(sorted((directory / "sv").glob("*.sv"))),
            verilog_files=tuple(sorted((directory / "v").glob("*.v"))),
            report=RtlReport.from_json((directory / REPORT_FILE).read_text()),
        )
