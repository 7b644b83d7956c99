# SPDX-License-Identifier: Apache-2.0
"""Random kernels: the RTL must equal the native build for each, under random stalls.

python tests/rtl/random_programs.py --count 1000 --seed 1    for hours; prints the seed of what fails
python tests/rtl/random_programs.py --show 17                the kernel of one seed
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlOptions
from e2hls.native import build_native
from e2hls.pipeline import generate, lower
from e2hls.simulation.harness import build_simulation, from_words, random_words, to_words

CALLS = 5
CRASHERS = Path(__file__).parents[2] / "build" / "crashers"
HEAD = """\
// SPDX-License-Identifier: Apache-2.0
#include <ap_fixed.h>
#include <ap_int.h>
#include <hls_stream.h>

#pragma clang diagnostic ignored "-Wall"
#pragma clang diagnostic ignored "-Wextra"

"""


@dataclass
class Program:
    """A kernel in the making."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    scalars: dict[str, int] = field(default_factory=dict)  # name -> bits; signed
    arrays: dict[str, tuple[int, int]] = field(default_factory=dict)  # in RAM: name -> depth, bits
    free: bool = False  # no loop asks for an interval, so that anything may be accessed at any time
    reads: int = 0  # words of x_in per call
    names: int = 0

    def name(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def put(self, depth: int, *lines: str) -> None:
        self.lines += ["  " * depth + line for line in lines]

    def bits(self) -> int:
        return self.rng.choice((1, 3, 8, 11, 16, 24, 32, 33, 48, 64, 70))

    def atom(self, pool: list[str]) -> str:
        if self.rng.random() < 0.25:
            return f"ap_int<{self.rng.choice((4, 9, 17))}>({self.rng.randint(-200, 200)})"
        return self.rng.choice(pool)

    def expr(self, pool: list[str], depth: int = 2) -> str:
        """An expression over the names in ``pool``."""
        if depth == 0:
            return self.atom(pool)
        a, b = self.expr(pool, depth - 1), self.expr(pool, depth - 1)
        bits = self.bits()
        kind = self.rng.randrange(11 if self.free else 9)
        if kind < 3:
            return f"({a} {self.rng.choice('+-*&|^')} {b})"
        if kind == 3:
            order = self.rng.choice(("<", "<=", "==", "!=", ">", ">="))
            return f"({a} {order} {b} ? ap_int<64>({self.atom(pool)}) : ap_int<64>({self.atom(pool)}))"
        if kind == 4:
            return f"(ap_int<{bits}>({a}) >> {self.rng.randrange(bits)})"
        if kind == 5:
            return f"(ap_int<40>({a}) {self.rng.choice(('<<', '>>'))} ap_uint<5>({b}))"
        if kind == 6:
            return f"ap_int<{bits}>({a})"
        if kind == 7:
            return f"ap_uint<{min(bits, 33)}>({a})"
        if kind == 9:
            divided = f"ap_{self.rng.choice(('', 'u'))}int<{min(bits, 24)}>({a})"
            return f"({divided} {self.rng.choice('/%')} (ap_int<{self.rng.choice((5, 9))}>({b}) | 1))"
        if kind == 10:
            return self.fixed(a, b)
        return f"(~ap_int<{bits}>({a}))"

    def fixed(self, a: str, b: str) -> str:
        """The bits of a product that is rounded and made to fit."""
        rounding = self.rng.choice(
            ("RND", "RND_ZERO", "RND_MIN_INF", "RND_INF", "RND_CONV", "TRN", "TRN_ZERO")
        )
        overflow = self.rng.choice(("SAT", "SAT_ZERO", "SAT_SYM", "WRAP"))
        width, sign = self.rng.choice((4, 9, 18)), self.rng.choice(("", "u"))
        kind = f"ap_{sign}fixed<{width}, {self.rng.randint(-1, width + 1)}, AP_{rounding}, AP_{overflow}>"
        factor = f"ap_fixed<11, 4>(ap_fixed<11, 11>(ap_int<11>({b})) * ap_fixed<8, 1>(0.3671875))"
        return f"{kind}(ap_fixed<14, 12>(ap_int<12>({a})) * {factor}).V"

    def cond(self, pool: list[str]) -> str:
        order = self.rng.choice(("<", "==", "!=", ">="))
        return f"ap_int<32>({self.expr(pool, 1)}) {order} ap_int<32>({self.expr(pool, 1)})"

    def index(self, array: str, names: list[str]) -> str:
        depth = self.arrays[array][0]
        factor, offset = self.rng.choice((0, 1, 3, 5)), self.rng.randrange(depth)
        return f"ap_uint<8>({self.rng.choice(names)} * {factor} + {offset}) % {depth}"

    # -- statements

    def phase(self) -> None:
        """One loop, or a nest of two."""
        trips = self.rng.choice((1, 2, 5, 8))
        outer = self.rng.choice((0, 0, 2, 3))
        depth, counters = 1, []
        if outer:
            i = self.name("i")
            self.put(1, f"for (int {i} = 0; {i} < {outer}; ++{i}) {{")
            counters.append(i)
            depth = 2
        j = self.name("j")
        bound = str(trips)
        pragmas = ("", "PIPELINE", "UNROLL factor=2", "UNROLL factor=3") if self.free else ("PIPELINE II=1",)
        pragma = self.rng.choice(pragmas)
        self.put(
            depth, f"for (int {j} = 0; {j} < {bound}; ++{j}) {{", f"  #pragma HLS {pragma}" * bool(pragma)
        )
        counters.append(j)
        for _ in range(self.rng.choice((1, 2)) if self.free else 1):
            self.body(depth + 1, counters, trips * max(outer, 1))
        self.put(depth, "}")
        if outer:
            self.put(1, "}")

    def body(self, depth: int, counters: list[str], runs: int) -> None:
        pool = [*self.scalars, *counters]
        rng = self.rng
        places = list(counters)  # that indices are made of
        if rng.random() < 0.7:
            word = self.name("word")
            self.put(depth, f"const ap_int<16> {word} = x_in.read();")
            self.reads += runs
            pool.append(word)
            places.append(word)
        written = rng.choice([*self.arrays, None, None]) if self.arrays else None
        readable = [name for name in self.arrays if name != written]
        if readable and rng.random() < 0.7:
            array, element = rng.choice(readable), self.name("element")
            bits = self.arrays[array][1]
            self.put(depth, f"const ap_int<{bits}> {element} = {array}[{self.index(array, places)}];")
            pool.append(element)
        at, updates = self.index(written, places) if written else "", []
        if written and rng.random() < 0.6:
            place, old = self.name("at"), self.name("old")
            self.put(depth, f"const ap_uint<8> {place} = {at};")
            self.put(depth, f"const ap_int<{self.arrays[written][1]}> {old} = {written}[{place}];")
            updates.append(old)
            at = place if rng.random() < 0.7 else self.index(written, places)
        for _ in range(rng.randint(0, 3)):
            self.assign(depth, pool)
        if written:
            when = f"if ({self.cond(pool)}) " if rng.random() < 0.3 else ""
            self.put(depth, f"{when}{written}[{at}] = {self.expr([*pool, *updates, *updates])};")
        if rng.random() < 0.6:
            self.emit(depth, pool)

    def assign(self, depth: int, pool: list[str]) -> None:
        target = self.rng.choice(list(self.scalars))
        if self.rng.random() < 0.4:
            self.put(depth, f"if ({self.cond(pool)}) {{", f"  {target} = {self.expr(pool)};")
            if self.rng.random() < 0.5:
                other = self.rng.choice(list(self.scalars))
                self.put(depth, "} else {", f"  {other} = {self.expr(pool)};")
            self.put(depth, "}")
        else:
            self.put(depth, f"{target} = {self.expr(pool)};")

    def emit(self, depth: int, pool: list[str]) -> None:
        if self.rng.random() < 0.5:
            self.put(depth, f"if ({self.cond(pool)}) {{", f"  y_out.write({self.expr(pool)});", "}")
        else:
            self.put(depth, f"y_out.write({self.expr(pool)});")


def make(seed: int) -> Program:
    """The kernel of one seed."""
    program = Program(random.Random(seed))
    rng = program.rng
    program.free = rng.random() < 0.5
    program.put(0, 'extern "C" void kernel(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<40>>& y_out) {')
    for _ in range(rng.randint(1, 4)):
        name, bits = program.name("s"), program.bits()
        kind = "static " if rng.random() < 0.5 else ""
        program.put(1, f"{kind}ap_int<{bits}> {name} = {rng.randint(-50, 50) if bits > 8 else 0};")
        program.scalars[name] = bits
    for _ in range(rng.randint(0, 2)):
        name, bits, depth = program.name("a"), program.bits(), rng.choice((4, 13, 32))
        program.put(1, f"static ap_int<{bits}> {name}[{depth}];")
        if rng.random() < 0.4:
            how = f"{rng.choice(('cyclic', 'block'))} factor={rng.choice((2, 3, 4))}"
            program.put(1, f"#pragma HLS ARRAY_PARTITION variable={name} {how}")
        program.arrays[name] = (depth, bits)
    # A call that wrote before it read would write words that the native build, out of calls, does not.
    program.put(1, f"{next(iter(program.scalars))} += x_in.read();")
    program.reads = 1
    for _ in range(rng.randint(1, 4)):
        program.phase()
    program.put(1, f"y_out.write({program.expr(list(program.scalars))});", "}")
    return program


def check(seed: int, folder: Path) -> str:
    """Compare RTL and native build of one seed: "equal", or why the flow refused the kernel.

    Raises: AssertionError where they differ.
    """
    program = make(seed)
    source = folder / "kernel.cpp"
    source.write_text(HEAD + "\n".join(program.lines) + "\n")
    kernel = Kernel("kernel", source)
    try:
        design = generate(lower(kernel), RtlOptions(), folder / "rtl")
    except HlsError as error:
        return str(error)
    ports = {port.name: port for port in design.report.ports}
    words = random_words(random.Random(seed), program.reads * CALLS, 16)
    native = build_native(kernel).run({"x_in": to_words(words, ports["x_in"])})
    want = from_words(native["y_out"], ports["y_out"])
    simulation = build_simulation(design, folder / "sim")
    for idle, stall in ((0.0, 0.0), (0.5, 0.5)):
        got, _ = simulation.run({"x_in": words}, {"y_out": len(want)}, seed=seed, idle=idle, stall=stall)
        assert got["y_out"] == want, f"seed {seed}: RTL and native build differ"
    return "equal"


def main() -> int:
    """Run seeds until the count is reached; failing kernels stay under build/crashers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--show", type=int, help="print the kernel of this seed and stop")
    options = parser.parse_args()
    if options.show is not None:
        print(HEAD + "\n".join(make(options.show).lines))
        return 0
    failures = 0
    for seed in range(options.seed, options.seed + options.count):
        folder = Path(tempfile.mkdtemp(prefix=f"random-{seed}-"))
        try:
            print(seed, check(seed, folder), flush=True)
            shutil.rmtree(folder)
        except Exception as error:
            failures += 1
            kept = CRASHERS / f"random-{seed}"
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            print(f"seed {seed} FAILED, see {kept}: {str(error)[:300]}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
