# SPDX-License-Identifier: Apache-2.0
"""Run any generated kernel in Verilator, with random stalls on every stream, at C++ speed."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2hls.base.cache import cached, content_key
from e2hls.base.clang import system_library
from e2hls.base.rtl_design import PortReport, RtlDesign, RtlReport
from e2hls.native import Words
from e2hls.simulation.toolchain import EXACT, RUNTIME, WITHOUT_RUNTIME, SimulationError, Toolchain

__all__ = [
    "Simulation",
    "SimulationRun",
    "build_simulation",
    "from_words",
    "random_words",
    "simulate",
    "to_words",
    "verilated_library",
]

_SOURCE = Path(__file__).parent / "stream_harness.cpp"
_PROBE = Path(__file__).parent / "fifo_probe.sv"
_FIFO = "e2hls_fifo.sv"
_WARNINGS_THAT_FAIL = ("-Wno-fatal", "-Wno-lint", "-Wno-style")
_CXX = "-std=c++17"
_MOST_CYCLES = 1_000_000
_OPTIONS = (
    *("--cc", "--exe", "--build", "--prefix", "Vkernel", "--assert"),
    *("--x-assign", "unique", "--x-initial", "unique", "--no-timing", "-O3", *_WARNINGS_THAT_FAIL),
    *("-CFLAGS", f"{_CXX} -I..", "-LDFLAGS", RUNTIME, "--output-split", "20000"),
    *("-o", "../simulation"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationRun:
    """What came out of each output, and how many words each stream moved; ``fault`` is "" for a whole run."""

    outputs: dict[str, list[int]]
    moved: dict[str, int]
    cycles: int  # until the last word that was waited for, or until nothing moved any more
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Simulation:
    """A compiled simulation of one kernel. Words are Python integers: data, TLAST, side channels."""

    binary: Path
    report: RtlReport

    @property
    def ports(self) -> tuple[PortReport, ...]:
        return self.report.ports

    def run(
        self,
        inputs: Mapping[str, Sequence[int]],
        counts: Mapping[str, int],
        *,
        seed: int = 0,
        idle: float = 0.0,
        stall: float = 0.0,
        within_cycles: int = _MOST_CYCLES,
    ) -> tuple[dict[str, list[int]], int]:
        """The words that came out of each output until ``counts`` were there, and the cycles that took.

        After the last word the simulation goes on for a while, so that surplus words are seen too.

        Raises: SimulationError where they do not come.
        """
        done = self.attempt(inputs, counts, seed=seed, idle=idle, stall=stall, within_cycles=within_cycles)
        if done.fault:
            raise SimulationError(done.fault)
        return done.outputs, done.cycles

    def attempt(
        self,
        inputs: Mapping[str, Sequence[int]],
        counts: Mapping[str, int],
        *,
        seed: int = 0,
        idle: float = 0.0,
        stall: float = 0.0,
        within_cycles: int = _MOST_CYCLES,
        quiet_cycles: int = _MOST_CYCLES,
    ) -> SimulationRun:
        """The same, with what came until the simulation failed, or no word moved for ``quiet_cycles``."""
        lines = [f"{seed} {int(idle * 256)} {int(stall * 256)} {within_cycles} {quiet_cycles}"]
        for port in self.ports:
            words = inputs.get(port.name, ())
            lines.append(f"{port.name} {counts.get(port.name, 0)} {len(words)}")
            lines += [f"{word:x}" for word in words]
        done = subprocess.run(
            [self.binary], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
        )
        found = self._read(done.stdout, done.stderr, counts, failed=done.returncode != 0)
        still = re.search(r"^\.stuck ", done.stdout, re.M) is not None
        return self._explained(found, done.stdout, inputs) if still else found

    def _read(self, stdout: str, stderr: str, counts: Mapping[str, int], *, failed: bool) -> SimulationRun:
        """What the harness printed."""
        outputs: dict[str, list[int]] = {port.name: [] for port in self.ports if port.output}
        moved: dict[str, int] = {}
        cycles, end = 0, ""
        notes = []
        for line in stdout.splitlines():
            name, *rest = line.split()
            if name in outputs and len(rest) == 1:
                outputs[name].append(int(rest[0], 16))
            elif name in (".cycles", ".stuck", ".quiet"):
                cycles, end = int(rest[0]), name
            elif name == ".moved":
                moved[rest[0]] = int(rest[1])
            elif name not in (".full", ".empty"):
                notes.append(line)
        fault = ""
        if failed:
            fault = " ".join(next(iter([*notes, *stderr.splitlines()]), "it ended without a message").split())
        elif end != ".cycles":
            rows = [(moved.get(name, 0), count, name) for name, count in counts.items()]
            missing = ", ".join(
                f"{got} of {count} words of {name}" for got, count, name in rows if got < count
            )
            fault = (
                f"the RTL deadlocks after {cycles} cycles with {missing}"
                if end == ".stuck"
                else f"the RTL runs, but moves no word any more after {cycles} cycles with {missing}"
            )
        return SimulationRun(outputs=outputs, moved=moved, cycles=cycles, fault=fault)

    def _explained(
        self, found: SimulationRun, stdout: str, inputs: Mapping[str, Sequence[int]]
    ) -> SimulationRun:
        """A run that stands still, with what each process waits for."""
        states = re.findall(r"^\.(full|empty) \S*\bfifo_(\w+)\.probe$", stdout, re.M)
        full = {name for state, name in states if state == "full"}
        empty = {name for state, name in states if state == "empty"}
        empty -= {name for name, words in inputs.items() if found.moved.get(name, 0) < len(words)}
        waits, stuck = [], set()
        for each in self.report.fifos:
            if each.name in full and each.writer:
                stuck.add(each.writer)
                waits.append(f"{each} (depth {each.depth}) is full and {each.writer} waits to write it")
        # One that stands still and writes nothing reads: from a stream that is empty.
        for process in self.report.processes:
            dry = [each for each in self.report.fifos if each.name in empty and each.reader == process.name]
            if process.name not in stuck and dry:
                waits.append(f"{' or '.join(map(str, dry))} is empty and {process.name} waits to read it")
        inner = [
            each.name
            for each in self.report.fifos
            if each.name in full and each.writer and each.reader and not each.scalar
        ]
        if inner:
            waits.append(
                f"natively a stream has no limit: give {' or '.join(inner)} a larger depth "
                "(#pragma HLS STREAM variable=... depth=N), or read it earlier"
            )
        return replace(found, fault="; ".join([found.fault, *waits]))


def simulate(
    design: RtlDesign,
    inputs: Mapping[str, Words],
    counts: Mapping[str, int],
    *,
    seed: int = 0,
    idle: float = 0.0,
    stall: float = 0.0,
) -> tuple[dict[str, Words], int]:
    """What a kernel's RTL makes of ``inputs``, and the cycles until ``counts`` words of each output came.

    ``idle`` is the share of cycles in which an input has no word, ``stall`` that of an output taking none.

    Raises: SimulationError where these words do not come, or a tool is missing.
    """
    ports = {port.name: port for port in design.report.ports}
    for name in (*inputs, *counts):
        if name not in ports or ports[name].output != (name in counts):
            kind = {True: "output", False: "input"}
            have = [port.name for port in ports.values() if port.output == (name in counts)]
            raise SimulationError(
                f"{design.name} has no {kind[name in counts]} {name!r}; it has {', '.join(have) or 'none'}"
            )
    words = {name: from_words(given, ports[name]) for name, given in inputs.items()}
    outputs, cycles = build_simulation(design).run(words, counts, seed=seed, idle=idle, stall=stall)
    return {name: to_words(values, ports[name]) for name, values in outputs.items()}, cycles


def build_simulation(design: RtlDesign, folder: Path | None = None, *, quick: bool = True) -> Simulation:
    """Verilate ``design`` with the harness into ``folder``, or into the cache, once per content.

    ``quick`` favours build time over speed.

    Raises: SimulationError when a tool is missing or the RTL does not compile.
    """
    table, make = _port_table(design), _make(quick)
    if folder is None:
        key = content_key(
            design.name, table, EXACT, _OPTIONS, make, system_library(), _SOURCE, _PROBE, *design.sv_files
        )
        folder = cached("simulation", key, lambda made: _build(design, made, table, make))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        _build(design, folder, table, make)
    return Simulation(folder / "simulation", design.report)


def _make(quick: bool) -> tuple[str, ...]:
    return (f"OPT_FAST={'-O0' if quick else '-O2'}", "OPT_SLOW=-O0", *WITHOUT_RUNTIME)


def _port_table(design: RtlDesign) -> str:
    def pin(port: PortReport, suffix: str) -> str:
        return f"k.{port.name}_{suffix}".replace("__", "___05F")  # as Verilator calls it

    rows = [
        f'  {{"{p.name}", {p.data_bits}, {int(p.axis)}, {int(p.output)}, '
        f"[](Vkernel& k) {{ return Pins{{wires({pin(p, 'tdata')}), "
        f"{'&' + pin(p, 'tlast') if p.axis else 'nullptr'}, &{pin(p, 'tvalid')}, &{pin(p, 'tready')}, {{"
        + ", ".join(f"{{wires({pin(p, f't{side}')}), {width}}}" for side, width in p.sides)
        + "}}; }},"
        for p in design.report.ports
    ]
    return "\n".join(["static const PortInfo kPorts[] = {", *rows, "};", ""])


def _build(design: RtlDesign, folder: Path, table: str, make: tuple[str, ...]) -> None:
    (folder / "ports.inc").write_text(table)
    shutil.copy(_SOURCE, folder / "harness.cpp")
    sources = (*design.sv_files, *([_PROBE] if any(each.name == _FIFO for each in design.sv_files) else ()))
    for source in sources:
        shutil.copy(source, folder)
    files = (*(source.name for source in sources), "harness.cpp")
    Toolchain.find().verilate(
        [*_OPTIONS, "--top-module", design.name, *files],
        directory=folder,
        make=make,
        links={"runtime.a": verilated_library()},
    )


def verilated_library() -> Path:
    """Verilator's run-time library as the harness needs it: the same for every kernel."""
    options = ("--no-timing", "-Wno-fatal", "-CFLAGS", _CXX)
    return Toolchain.find().runtime(options, make=("OPT_GLOBAL=-O1",))


def random_words(rng: random.Random, count: int, width: int) -> list[int]:
    """Words of which a third are corners."""
    corners = (0, 1, (1 << width) - 1, 1 << (width - 1), (1 << (width - 1)) - 1)
    return [rng.choice(corners) if rng.random() < 0.33 else rng.getrandbits(width) for _ in range(count)]


def to_words(values: Sequence[int], port: PortReport) -> Words:
    """The same words as the native kernel takes them."""
    last = np.array([port.axis and v >> port.data_bits & 1 for v in values], np.bool_)
    sides, at = {}, port.data_bits + port.axis
    for side, width in port.sides:
        sides[side] = _limbs([v >> at for v in values], width)
        at += width
    return Words(data=_limbs(values, port.data_bits), last=last, sides=sides)


def from_words(words: Words, port: PortReport) -> list[int]:
    """What the native kernel gave, as integers."""
    found = _integers(words.data)
    if port.axis:
        found = [v | int(last) << port.data_bits for v, last in zip(found, words.last, strict=True)]
    at = port.data_bits + port.axis
    for side, width in port.sides:
        found = [v | each << at for v, each in zip(found, _integers(words.sides[side]), strict=True)]
        at += width
    return found


def _limbs(values: Sequence[int], bits: int) -> NDArray[np.uint64]:
    """The low bits of integers, 64 of them to a column."""
    rows = [[v % (1 << bits) >> (64 * i) & (1 << 64) - 1 for i in range(-(-bits // 64))] for v in values]
    return np.array(rows, np.uint64).reshape(len(values), -(-bits // 64))


def _integers(limbs: NDArray[np.uint64]) -> list[int]:
    return [sum(int(limb) << (64 * i) for i, limb in enumerate(row)) for row in limbs]
