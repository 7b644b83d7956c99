# SPDX-License-Identifier: Apache-2.0
"""Two modules of the same ports in lockstep in Verilator, on random inputs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from e2hls.simulation.harness import verilated_library
from e2hls.simulation.toolchain import RUNTIME, WITHOUT_RUNTIME, Toolchain

__all__ = ["DifferError", "run_in_lockstep"]

_PORT = re.compile(r"^  (input|output) (?:wire|reg) (?:\[(\d+):0\] )?(\w+),?$", re.MULTILINE)
_DRIVEN = ("clk", "rst_n")
_MAIN = """\
#include <cstdio>
#include <cstdlib>
#include "Vpair.h"

int main(int, char** arguments) {
  VerilatedContext context;
  context.randSeed(std::atoi(arguments[1]));
  Vpair pair{&context};
  for (long cycle = 0; cycle < std::atol(arguments[2]); ++cycle) {
    pair.rst_n = cycle > 3 && cycle % 997 != 0;
    for (int level : {0, 1}) {
      pair.clk = level;
      pair.eval();
    }
    if (pair.differs) {
      std::printf("differ in cycle %ld\\n", cycle);
      return 1;
    }
  }
  std::printf("%u\\n", pair.events);
}
"""


class DifferError(AssertionError):
    """The modules do not do the same."""


def run_in_lockstep(one: str, other: str, folder: Path, *, count: str, cycles: int, seed: int) -> int:
    """Compare all outputs in every cycle; returns in how many of them the output ``count`` was 1.

    Raises: DifferError with the seed and the first cycle in which an output differed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = re.search(r"^module (\w+)", one, re.MULTILINE)
    assert name
    for module, text in (("one", one), ("other", other)):
        renamed = re.sub(rf"^module {name[1]}\b", f"module {module}", text, flags=re.MULTILINE)
        (folder / f"{module}.sv").write_text(renamed)
    ports = [(direction, int(top or 0) + 1, port) for direction, top, port in _PORT.findall(one)]
    (folder / "pair.sv").write_text(_pair([port for port in ports if port[2] not in _DRIVEN], count))
    (folder / "main.cpp").write_text(_MAIN)
    make = ("OPT_FAST=-O1", "OPT_SLOW=-O0", *WITHOUT_RUNTIME)
    arguments = ["--cc", "--exe", "--build", "-j", "2", "--prefix", "Vpair", "--top-module", "pair"]
    arguments += ["--no-timing", "-Wno-fatal", "--x-initial", "0", "-CFLAGS", "-std=c++17"]
    arguments += ["-LDFLAGS", RUNTIME, "-o", "../pair", "pair.sv", "one.sv", "other.sv", "main.cpp"]
    links = {"runtime.a": verilated_library()}
    Toolchain.find().verilate(arguments, directory=folder, make=make, links=links)
    done = subprocess.run(
        [folder / "pair", str(seed), str(cycles)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DifferError(f"seed {seed}: {done.stdout.strip()} {done.stderr.strip()} in {folder}")
    return int(done.stdout)


def _pair(ports: list[tuple[str, int, str]], count: str) -> str:
    """A module around both: words are 0 half of the time, single bits are mostly 1."""
    declared, drives, differs = [], [], []
    pins: dict[str, list[str]] = {"one": [], "other": []}
    for direction, width, port in ports:
        if direction == "input":
            words = -(-width // 32)
            declared.append(f"  reg [{32 * words - 1}:0] {port};")
            drives.append("    chance = $urandom;")
            if width == 1:
                drives.append(f"    {port} <= 32'(chance[3:0] != 0);")
            else:
                drives.append(f"    for (int i = 0; i < {words}; i = i + 1)")
                drives.append(f"      {port}[32 * i +: 32] <= chance[0] ? $urandom : 0;")
        else:
            declared.append(f"  wire [{width - 1}:0] one_{port}, other_{port};")
            differs.append(f"one_{port} != other_{port}")
        for module, pin in pins.items():
            signal = f"{port}[{width - 1}:0]" if direction == "input" else f"{module}_{port}"
            pin.append(f".{port}({signal})")
    lines = ["module pair(input wire clk, input wire rst_n, output reg differs, output reg [31:0] events);"]
    lines += [*declared, "  reg [31:0] chance;", "  always_ff @ (posedge clk) begin", *drives]
    lines += [
        f"    differs <= {' || '.join(differs)};",
        f"    if (one_{count}) events <= events + 1;",
        "  end",
    ]
    lines += [f"  {module} i_{module} (.clk, .rst_n, {', '.join(pin)});" for module, pin in pins.items()]
    return "\n".join([*lines, "endmodule", ""])
