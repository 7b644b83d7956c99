# SPDX-License-Identifier: Apache-2.0
"""Random kernels over the C++ that the flow takes: one function each, of one process or several."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

__all__ = ["HEAD", "RandomKernel", "random_kernel"]

HEAD = """\
// SPDX-License-Identifier: Apache-2.0
#include <ap_fixed.h>
#include <ap_int.h>
#include <hls_stream.h>

#pragma clang diagnostic ignored "-Wall"
#pragma clang diagnostic ignored "-Wextra"

"""
_ROUNDING = ("RND", "RND_ZERO", "RND_MIN_INF", "RND_INF", "RND_CONV", "TRN", "TRN_ZERO")
_OVERFLOW = ("SAT", "SAT_ZERO", "SAT_SYM", "WRAP")
_MIDDLE = 24  # bits of what goes from process to process


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomKernel:
    """``lines`` define ``void NAME(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<40>>& y_out)``."""

    name: str
    lines: tuple[str, ...]
    reads: int  # words of x_in per call
    several: bool = False  # processes, of which one may run on where it needs nothing of the other


def random_kernel(seed: int) -> RandomKernel:
    """The kernel of one seed, called ``kSEED``."""
    rng = random.Random(seed)
    name = f"k{seed}"
    ports = "(hls::stream<ap_int<16>>& x_in, hls::stream<ap_int<40>>& y_out)"
    if rng.random() < 0.75:
        only = _Process(rng, free=rng.random() < 0.5)
        only.write()
        return RandomKernel(name=name, lines=(f"void {name}{ports} {{", *only.lines, "}"), reads=only.reads)
    streams = rng.random() < 0.5
    first = _Process(rng, free=rng.random() < 0.3, steady=True, streams=streams)
    if streams:
        first.write()
        second = _Process(rng, free=rng.random() < 0.3, supply=first.writes)
        second.write()
        middle = f"hls::stream<ap_int<{_MIDDLE}>>"
        joined = (f"  {middle} middle;",)
        kinds = f"{middle}&", f"{middle}&"
        names = "y_out", "x_in"
    else:
        buffer = rng.choice((5, 8, 16))
        first.write(fill=buffer)
        second = _Process(rng, free=rng.random() < 0.3, supply=0, table=buffer)
        second.write()
        joined = (f"  ap_int<{_MIDDLE}> middle[{buffer}];",)
        kinds = f"ap_int<{_MIDDLE}>", f"const ap_int<{_MIDDLE}>"
        names = f"buffer[{buffer}]", f"buffer[{buffer}]"
    lines = (
        f"static void {name}_first(hls::stream<ap_int<16>>& x_in, {kinds[0]} {names[0]}) {{",
        *first.lines,
        "}",
        f"static void {name}_second({kinds[1]} {names[1]}, hls::stream<ap_int<40>>& y_out) {{",
        *second.lines,
        "}",
        f"void {name}{ports} {{",
        "  #pragma HLS DATAFLOW",
        *joined,
        f"  {name}_first(x_in, middle);",
        f"  {name}_second(middle, y_out);",
        "}",
    )
    return RandomKernel(name=name, lines=lines, reads=first.reads, several=True)


@dataclass(frozen=True, slots=True)
class _Array:
    dims: tuple[int, ...]
    bits: int


@dataclass
class _Process:
    """The body of a function that becomes one process."""

    rng: random.Random
    free: bool = False  # no loop asks for an interval, so that anything may be accessed at any time
    steady: bool = False  # writes as many words in every call: another process waits for them
    streams: bool = True  # writes words, not an array
    supply: int | None = None  # words that it must read per call; None for any number
    table: int = 0  # elements of an array that another process filled
    lines: list[str] = field(default_factory=list)
    scalars: list[str] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)  # numbers with a point
    arrays: dict[str, _Array] = field(default_factory=dict)
    reads: int = 0
    writes: int = 0
    names: int = 0
    polls: bool = False  # a word may be waited for by asking again and again
    turns: int = 1  # how often what is being written runs per call; 0 where data decide

    def write(self, *, fill: int = 0) -> None:
        """The whole body; ``fill`` elements of an array for another process in place of words."""
        self.declare()
        # A call that wrote before it read would write words that the native build, out of calls, does not.
        first = f"buffer[{self.rng.randrange(self.table)}]" if self.table else "x_in.read()"
        self.put(1, f"{self.scalar()} += {first};")
        self.reads = int(not self.table)
        for _ in range(self.rng.randint(1, 3)):
            self.phase()
        if self.supply is not None and self.reads < self.supply:
            rest = f"for (int rest = {self.reads}; rest < {self.supply}; ++rest)"
            self.put(1, f"{rest} {self.scalar()} ^= x_in.read();")
        if fill:
            self.fill(fill)
        else:
            self.put(1, f"y_out.write({self.expr(self.scalars)});")
            self.writes += 1

    def fill(self, count: int) -> None:
        """Write an array as a whole, and perhaps update what was written."""
        at = self.name("at")
        pool = [*self.scalars, at]
        self.put(1, f"for (int {at} = 0; {at} < {count}; ++{at}) buffer[{at}] = {self.expr(pool)};")
        if self.rng.random() < 0.5:
            i, place = self.name("i"), self.name("place")
            self.put(1, f"for (int {i} = 0; {i} < {self.rng.choice((3, 7))}; ++{i}) {{")
            self.put(2, f"const int {place} = ap_uint<8>({self.rng.choice(pool[:-1])} + {i}) % {count};")
            self.put(2, f"buffer[{place}] = buffer[{place}] + ap_int<9>({self.expr([*pool[:-1], i], 1)});")
            self.put(1, "}")

    # -- names and declarations

    def name(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def put(self, depth: int, *lines: str) -> None:
        self.lines += ["  " * depth + line for line in lines]

    def scalar(self) -> str:
        return self.rng.choice(self.scalars)

    def bits(self) -> int:
        return self.rng.choice((1, 3, 8, 11, 16, 24, 32, 33, 48, 64, 70))

    def declare(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(1, 4)):
            name, bits = self.name("s"), self.bits()
            kind = "static " if rng.random() < 0.5 else ""
            sign = "u" if rng.random() < 0.25 else ""
            start = rng.randint(0 if sign else -50, 50) if bits > 8 else 0
            self.put(1, f"{kind}ap_{sign}int<{bits}> {name} = {start};")
            self.scalars.append(name)
        if rng.random() < 0.35:
            name = self.name("f")
            kind = f"{rng.choice(('static ', ''))}{self.fixed_type()}"
            self.put(1, f"{kind} {name} = {rng.choice((0, 0.375))};")
            self.fixed.append(name)
        for _ in range(rng.randint(0, 2)):
            self.declare_array()
        if rng.random() < 0.25:
            name, depth = self.name("t"), rng.choice((4, 8, 11))
            values = ", ".join(str(rng.randint(-128, 127)) for _ in range(depth))
            self.put(1, f"static const ap_int<8> {name}[{depth}] = {{{values}}};")
            self.arrays[name] = _Array((depth,), 8)
        if self.table:
            self.arrays["buffer"] = _Array((self.table,), _MIDDLE)

    def declare_array(self) -> None:
        rng = self.rng
        name, bits = self.name("a"), self.bits()
        dims = rng.choice(((4,), (13,), (32,), (3, 8), (4, 5)))
        kind, start = ("static ", "") if rng.random() < 0.7 else ("", " = {}")
        self.put(1, f"{kind}ap_int<{bits}> {name}{''.join(f'[{dim}]' for dim in dims)}{start};")
        if rng.random() < 0.5:
            how = f"{rng.choice(('cyclic', 'block'))} factor={rng.choice((2, 3, 4))}"
            if rng.random() < 0.25:
                how = "complete"
            dim = f" dim={rng.randint(1, len(dims))}" if len(dims) > 1 else ""
            verb = rng.choice(("PARTITION", "PARTITION", "RESHAPE"))
            self.put(1, f"#pragma HLS ARRAY_{verb} variable={name} {how}{dim}")
        self.arrays[name] = _Array(dims, bits)

    def fixed_type(self) -> str:
        rounding, overflow = self.rng.choice(_ROUNDING), self.rng.choice(_OVERFLOW)
        width, sign = self.rng.choice((4, 9, 18)), self.rng.choice(("", "u"))
        return f"ap_{sign}fixed<{width}, {self.rng.randint(-1, width + 1)}, AP_{rounding}, AP_{overflow}>"

    # -- expressions

    def atom(self, pool: list[str]) -> str:
        if self.rng.random() < 0.2:
            return f"ap_int<{self.rng.choice((4, 9, 17))}>({self.rng.randint(-200, 200)})"
        if self.fixed and self.rng.random() < 0.15:
            name = self.rng.choice(self.fixed)
            return self.rng.choice((f"ap_int<12>({name})", f"{name}.range()"))
        return self.rng.choice(pool)

    def expr(self, pool: list[str], depth: int = 2) -> str:
        """An expression over the names in ``pool``."""
        if depth == 0:
            return self.atom(pool)
        rng = self.rng
        a, b = self.expr(pool, depth - 1), self.expr(pool, depth - 1)
        c, d = self.atom(pool), self.atom(pool)
        bits, high = self.bits(), rng.randrange(20)
        order = rng.choice(("<", "<=", "==", "!=", ">", ">="))
        divided = f"ap_{rng.choice(('', 'u'))}int<{min(bits, 24)}>({a})"
        forms = (
            f"({a} {rng.choice('+-*')} {b})",
            f"({a} {rng.choice('+-*&|^')} {b})",
            f"({a} {rng.choice('&|^')} {b})",
            f"({a} {order} {b} ? ap_int<64>({c}) : ap_int<64>({d}))",
            f"(ap_int<{bits}>({a}) >> {rng.randrange(bits)})",
            f"(ap_int<40>({a}) {rng.choice(('<<', '>>'))} ap_uint<5>({b}))",
            f"ap_int<{bits}>({a})",
            f"ap_uint<{min(bits, 33)}>({a})",
            f"(ap_int<{bits}>({a}), ap_uint<{rng.choice((1, 7))}>({b}))",
            f"ap_int<20>({a}).range({high}, {rng.randint(0, high)})",
            f"ap_uint<1>(ap_int<9>({a})[ap_uint<3>({b})])",
            f"(~ap_int<{bits}>({a}))",
            f"({divided} {rng.choice('/%')} (ap_int<{rng.choice((5, 9))}>({b}) | 1))",
            self.product(a, b),
        )
        return rng.choice(forms if self.free else forms[:-2])

    def product(self, a: str, b: str) -> str:
        """The bits of a product that is rounded and made to fit."""
        factor = f"ap_fixed<11, 4>(ap_fixed<11, 11>(ap_int<11>({b})) * ap_fixed<8, 1>(0.3671875))"
        return f"{self.fixed_type()}(ap_fixed<14, 12>(ap_int<12>({a})) * {factor}).V"

    def cond(self, pool: list[str]) -> str:
        order = self.rng.choice(("<", "==", "!=", ">="))
        return f"ap_int<32>({self.expr(pool, 1)}) {order} ap_int<32>({self.expr(pool, 1)})"

    def index(self, array: str, names: list[str]) -> str:
        """An element's place, with its brackets."""
        places = []
        for dim in self.arrays[array].dims:
            factor, offset = self.rng.choice((0, 1, 3, 5)), self.rng.randrange(dim)
            places.append(f"[ap_uint<8>({self.rng.choice(names)} * {factor} + {offset}) % {dim}]")
        return "".join(places)

    # -- statements

    def phase(self) -> None:
        """A loop, a nest, or words that go through a stream of the process itself."""
        kind = self.rng.random() if self.free else 1.0
        (self.own_stream if kind < 0.12 else self.data_bound if kind < 0.3 else self.nest)()

    def nest(self) -> None:
        """One loop, or a nest of two or three, perfect or not."""
        rng = self.rng
        trips = rng.choice((1, 2, 5, 8))
        outer = [rng.choice((2, 3)) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
        counters: list[str] = []
        self.turns = trips
        for depth, count in enumerate(outer, 1):
            i = self.name("i")
            self.put(depth, f"for (int {i} = 0; {i} < {count}; ++{i}) {{")
            counters.append(i)
            self.turns *= count
        depth = len(outer) + 1
        if outer and self.free and rng.random() < 0.5:
            self.assign(depth, [*self.scalars, *counters])
        j = self.name("j")
        pragmas = ("", "PIPELINE", "UNROLL", "UNROLL factor=2", "UNROLL factor=3")
        pragma = rng.choice(pragmas) if self.free else "PIPELINE II=1"
        if pragma == "UNROLL" and self.turns > 5:
            pragma = ""
        self.put(depth, f"for (int {j} = 0; {j} < {trips}; ++{j}) {{")
        if pragma:
            self.put(depth, f"  #pragma HLS {pragma}")
        counters.append(j)
        self.polls = not pragma
        for _ in range(rng.choice((1, 2)) if self.free else 1):
            self.body(depth + 1, counters)
        self.put(depth, "}")
        if outer and self.free and rng.random() < 0.4:
            self.assign(depth, [*self.scalars, *counters[:-1]])
        for depth in range(len(outer), 0, -1):
            self.put(depth, "}")
        self.turns = 1

    def data_bound(self) -> None:
        """A loop whose end depends on data; streams that others wait for are left alone."""
        rng, n = self.rng, self.name("n")
        pool = self.scalars
        self.turns = 0
        if rng.random() < 0.5:
            self.put(1, f"for (int {n} = 0; {n} < int(ap_uint<3>({self.expr(pool, 1)})); ++{n}) {{")
            if rng.random() < 0.5:
                self.put(2, f"if ({self.cond([*pool, n])}) {rng.choice(('break', 'continue'))};")
            self.body(2, [n])
        else:
            left = self.name("left")
            self.put(1, f"ap_uint<6> {left} = {self.expr(pool, 1)};", f"while ({left} != 0) {{")
            self.body(2, [left])
            self.put(2, f"{left} >>= {rng.choice((1, 2))};")
        self.put(1, "}")
        self.turns = 1

    def own_stream(self) -> None:
        """Words that the process writes and reads again."""
        kept, i, j = self.name("kept"), self.name("i"), self.name("j")
        count = self.rng.choice((2, 6))
        word = self.expr([*self.scalars, i])
        self.put(1, f"hls::stream<ap_int<21>> {kept};")
        self.put(1, f"for (int {i} = 0; {i} < {count}; ++{i}) {kept}.write({word});")
        self.put(1, f"for (int {j} = 0; {j} < {count}; ++{j}) {self.scalar()} += {kept}.read();")

    def body(self, depth: int, counters: list[str]) -> None:
        pool = [*self.scalars, *counters]
        rng = self.rng
        places = list(counters)  # that indices are made of
        if self.turns and self.may_read() and rng.random() < 0.7:
            pool.append(self.read(depth))
            places.append(pool[-1])
        mutable = [name for name in self.arrays if name[0] == "a"]
        written = rng.choice([*mutable, None, None]) if mutable else None
        readable = [name for name in self.arrays if name != written]
        if readable and rng.random() < 0.7:
            array, element = rng.choice(readable), self.name("element")
            bits = self.arrays[array].bits
            self.put(depth, f"const ap_int<{bits}> {element} = {array}{self.index(array, places)};")
            pool.append(element)
        at, updates = self.index(written, places) if written else "", []
        if written and rng.random() < 0.6:
            at, old = self.hold(depth, written, at), self.name("old")
            self.put(depth, f"const ap_int<{self.arrays[written].bits}> {old} = {written}{at};")
            updates.append(old)
            at = at if rng.random() < 0.7 else self.index(written, places)
        for _ in range(rng.randint(0, 3)):
            self.assign(depth, pool)
        if written:
            when = f"if ({self.cond(pool)}) " if rng.random() < 0.3 else ""
            self.put(depth, f"{when}{written}{at} = {self.expr([*pool, *updates, *updates])};")
        if rng.random() < 0.6:
            self.emit(depth, pool)

    def hold(self, depth: int, array: str, at: str) -> str:
        """The same place, computed once."""
        names = []
        for place in at[1:-1].split("]["):
            names.append(self.name("at"))
            self.put(depth, f"const ap_uint<8> {names[-1]} = {place};")
        return "".join(f"[{name}]" for name in names)

    def may_read(self) -> bool:
        return self.supply is None or self.reads + self.turns <= self.supply

    def read(self, depth: int) -> str:
        word = self.name("word")
        if self.polls and self.rng.random() < 0.3:
            self.put(depth, f"ap_int<{16 if self.supply is None else _MIDDLE}> {word};")
            self.put(depth, f"while (!x_in.read_nb({word})) {{", "}")
        else:
            self.put(depth, f"const ap_int<16> {word} = x_in.read();")
        self.reads += self.turns
        return word

    def assign(self, depth: int, pool: list[str]) -> None:
        rng, target = self.rng, self.scalar()
        kind = rng.random()
        if self.fixed and kind < 0.3:
            name = rng.choice(self.fixed)
            term = f"ap_fixed<12, 5>(ap_fixed<12, 12>(ap_int<12>({self.expr(pool, 1)})) >> 3)"
            verbs = ("=", "+=", "-=", "*=") if self.free else ("=", "+=", "-=")
            self.put(depth, f"{name} {rng.choice(verbs)} {term};")
        elif kind < 0.55:
            self.put(depth, f"if ({self.cond(pool)}) {{", f"  {target} = {self.expr(pool)};")
            if rng.random() < 0.5:
                self.put(depth, "} else {", f"  {self.scalar()} = {self.expr(pool)};")
            self.put(depth, "}")
        elif kind < 0.65:
            self.put(depth, f"switch (int(ap_uint<2>({self.expr(pool, 1)}))) {{")
            for case in rng.sample(range(4), 2):
                self.put(depth, f"  case {case}: {self.scalar()} = {self.expr(pool, 1)}; break;")
            self.put(depth, f"  default: {target} ^= {self.atom(pool)};", "}")
        elif kind < 0.75:
            self.put(depth, f"{target}[0] = {self.cond(pool)};")
        else:
            self.put(depth, f"{target} = {self.expr(pool)};")

    def emit(self, depth: int, pool: list[str]) -> None:
        if self.steady:
            if self.turns and self.streams:
                self.put(depth, f"y_out.write({self.expr(pool)});")
                self.writes += self.turns
        elif self.rng.random() < 0.5:
            self.put(depth, f"if ({self.cond(pool)}) {{", f"  y_out.write({self.expr(pool)});", "}")
        else:
            self.put(depth, f"y_out.write({self.expr(pool)});")
