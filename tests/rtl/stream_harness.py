# SPDX-License-Identifier: Apache-2.0
"""Run any generated kernel in Verilator, with random stalls on every stream, at C++ speed."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2hls.rtl_design import RtlDesign
from e2sim.toolchain import Toolchain

__all__ = ["Port", "Simulation", "build_simulation", "random_words"]

_SOURCE = Path(__file__).parent / "stream_harness.cpp"
_WARNINGS_THAT_FAIL = ("-Wno-fatal", "-Wno-lint", "-Wno-style")


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A stream of the kernel: ``width`` data bits; words are Python integers, TLAST their next bit."""

    name: str
    width: int
    axis: bool
    output: bool


@dataclass(frozen=True, slots=True)
class Simulation:
    """A compiled simulation of one kernel."""

    binary: Path
    ports: tuple[Port, ...]

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


def build_simulation(
    design: RtlDesign, ports: Sequence[Port], folder: Path, *, quick: bool = True
) -> Simulation:
    """Verilate ``design`` with the harness into ``folder``; ``quick`` favours build time over speed."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        f'  {{"{p.name}", {p.width}, {int(p.axis)}, {int(p.output)}, '
        f"[](Vkernel& k) {{ return Pins{{wires(k.{p.name}_tdata), "
        f"{f'&k.{p.name}_tlast' if p.axis else 'nullptr'}, &k.{p.name}_tvalid, &k.{p.name}_tready}}; }}}},"
        for p in ports
    ]
    table = "\n".join(["static const PortInfo kPorts[] = {", *rows, "};", ""])
    (folder / "ports.inc").write_text(table)
    shutil.copy(_SOURCE, folder / "harness.cpp")
    level = "-O0" if quick else "-O2"
    make = f"OPT_FAST={level} OPT_SLOW=-O0 OPT_GLOBAL=-O1"
    Toolchain.find().verilate(
        [
            *("--cc", "--exe", "--build", "--prefix", "Vkernel", "--top-module", design.name, "--assert"),
            *("--x-assign", "unique", "--x-initial", "unique", "--no-timing", "-O3", *_WARNINGS_THAT_FAIL),
            *("-CFLAGS", f"-std=c++17 -I{folder}", "-MAKEFLAGS", make, "--output-split", "20000"),
            *("--Mdir", "obj", "-o", "../simulation"),
            *(str(path) for path in design.sv_files),
            "harness.cpp",
        ],
        directory=folder,
    )
    return Simulation(folder / "simulation", tuple(ports))


def random_words(rng: random.Random, count: int, width: int) -> list[int]:
    """Words of which a third are corners."""
    corners = (0, 1, (1 << width) - 1, 1 << (width - 1), (1 << (width - 1)) - 1)
    return [rng.choice(corners) if rng.random() < 0.33 else rng.getrandbits(width) for _ in range(count)]
