# SPDX-License-Identifier: Apache-2.0
"""Run any generated kernel in Verilator, with random stalls on every stream, at C++ speed."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from e2hls.base.cache import cached, content_key
from e2hls.base.clang import system_library
from e2hls.base.rtl_design import PortReport, RtlDesign
from e2hls.native import Words
from e2sim.toolchain import LINKS, Toolchain

__all__ = [
    "VERILATED",
    "Simulation",
    "build_simulation",
    "from_words",
    "random_words",
    "to_words",
    "verilated_library",
]

VERILATED = f"../{LINKS}/verilated"  # where make finds verilated_library()
_SOURCE = Path(__file__).parent / "stream_harness.cpp"
_WARNINGS_THAT_FAIL = ("-Wno-fatal", "-Wno-lint", "-Wno-style")
_CXX = "-std=c++17"


@dataclass(frozen=True, slots=True)
class Simulation:
    """A compiled simulation of one kernel. Words are Python integers: data, TLAST, side channels."""

    binary: Path
    ports: tuple[PortReport, ...]

    def run(
        self,
        inputs: Mapping[str, Sequence[int]],
        counts: Mapping[str, int],
        *,
        seed: int = 0,
        idle: float = 0.0,
        stall: float = 0.0,
        within_cycles: int = 1_000_000,
    ) -> tuple[dict[str, list[int]], int]:
        """The words that came out of each output until ``counts`` were there, and the cycles that took.

        After the last word the simulation goes on for a while, so that surplus words are seen too.
        """
        lines = [f"{seed} {int(idle * 256)} {int(stall * 256)} {within_cycles}"]
        for port in self.ports:
            words = inputs.get(port.name, ())
            lines.append(f"{port.name} {counts.get(port.name, 0)} {len(words)}")
            lines += [f"{word:x}" for word in words]
        done = subprocess.run(
            [self.binary], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"simulation failed: {(done.stdout + done.stderr)[-2000:]}")
        outputs: dict[str, list[int]] = {port.name: [] for port in self.ports if port.output}
        cycles = 0
        for line in done.stdout.splitlines():
            name, value = line.split()
            if name == "cycles":
                cycles = int(value)
            else:
                outputs[name].append(int(value, 16))
        return outputs, cycles


def build_simulation(design: RtlDesign, folder: Path, *, quick: bool = True) -> Simulation:
    """Verilate ``design`` with the harness into ``folder``; ``quick`` favours build time over speed."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        f'  {{"{p.name}", {p.data_bits}, {int(p.axis)}, {int(p.output)}, '
        f"[](Vkernel& k) {{ return Pins{{wires(k.{p.name}_tdata), "
        f"{f'&k.{p.name}_tlast' if p.axis else 'nullptr'}, &k.{p.name}_tvalid, &k.{p.name}_tready, {{"
        + ", ".join(f"{{wires(k.{p.name}_t{side}), {width}}}" for side, width in p.sides)
        + "}}; }},"
        for p in design.report.ports
    ]
    table = "\n".join(["static const PortInfo kPorts[] = {", *rows, "};", ""])
    (folder / "ports.inc").write_text(table)
    shutil.copy(_SOURCE, folder / "harness.cpp")
    level = "-O0" if quick else "-O2"
    for source in design.sv_files:
        shutil.copy(source, folder)
    Toolchain.find().verilate(
        [
            *("--cc", "--exe", "--build", "--prefix", "Vkernel", "--top-module", design.name, "--assert"),
            *("--x-assign", "unique", "--x-initial", "unique", "--no-timing", "-O3", *_WARNINGS_THAT_FAIL),
            *("-CFLAGS", f"{_CXX} -I..", "-LDFLAGS", VERILATED, "--output-split", "20000"),
            *("-o", "../simulation", *(source.name for source in design.sv_files), "harness.cpp"),
        ],
        directory=folder,
        make=(f"OPT_FAST={level}", "OPT_SLOW=-O0", "VM_GLOBAL_FAST=", "VM_GLOBAL_SLOW="),
        links={"verilated": verilated_library()},
    )
    return Simulation(folder / "simulation", design.report.ports)


def verilated_library() -> Path:
    """Verilator's run-time library: the same for every kernel, it is compiled once."""
    tools = Toolchain.find()
    options = ("--cc", "--build", "--no-timing", "-Wno-fatal", "-CFLAGS", _CXX)
    make = ("OPT_GLOBAL=-O1",)

    def build(folder: Path) -> None:
        (folder / "empty.sv").write_text("module empty (input logic clk_i);\nendmodule\n")
        tools.verilate([*options, "empty.sv"], directory=folder, make=make)
        shutil.move(folder / "obj" / "libverilated.a", folder)
        shutil.rmtree(folder / "obj")

    sources = sorted((tools.verilator_root / "include").glob("verilated*"))
    return (
        cached("verilated", content_key(options, make, system_library(), *sources), build) / "libverilated.a"
    )


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


def _limbs(values: Sequence[int], bits: int) -> np.ndarray:
    """The low bits of integers, 64 of them to a column."""
    rows = [[v % (1 << bits) >> (64 * i) & (1 << 64) - 1 for i in range(-(-bits // 64))] for v in values]
    return np.array(rows, np.uint64).reshape(len(values), -(-bits // 64))


def _integers(limbs: np.ndarray) -> list[int]:
    return [sum(int(limb) << (64 * i) for i, limb in enumerate(row)) for row in limbs]
