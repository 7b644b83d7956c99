# SPDX-License-Identifier: Apache-2.0
"""Random kernels that move numbers about in arrays of several dimensions, alone or in structs."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

__all__ = ["random_places"]

_NAMES = "ijk"


@dataclass(frozen=True, slots=True)
class _Places:
    """A kernel under construction: an array ``a`` of these dimensions, or of structs that hold the others."""

    rng: random.Random
    dims: tuple[int, ...]
    structs: bool

    def at(self, offsets: tuple[int, ...]) -> list[str]:
        """Indices that are so far from those of the loops around."""
        pairs = zip(_NAMES, offsets, strict=False)
        return [f"{name} + {by}" if by > 0 else f"{name} - {-by}" if by else name for name, by in pairs]

    def element(self, offsets: tuple[int, ...]) -> str:
        first, *others = self.at(offsets)
        return f"a[{first}]" + ".v" * self.structs + "".join(f"[{each}]" for each in others)

    def loops(self, low: list[int], high: list[int], statement: str) -> str:
        """A nest over all dimensions, in either direction, unrolled or not."""
        lines = []
        for name, begin, end in zip(_NAMES, low, high, strict=False):
            up = f"int {name} = {begin}; {name} < {end}; ++{name}"
            down = f"int {name} = {end - 1}; {name} >= {begin}; --{name}"
            unroll = self.rng.choice(("", "", "#pragma HLS UNROLL", "#pragma HLS UNROLL factor=2"))
            lines += [f"for ({down if self.rng.random() < 0.3 else up}) {{", unroll]
        return "\n".join([*lines, statement, *("}" for _ in self.dims)])

    def reading(self) -> str:
        """Every number is read, by range-for or by index."""
        if self.structs:
            loops, value = [], "e.v"
            for n in range(1, len(self.dims)):
                loops.append(f"for (auto& e{n} : {value})")
                value = f"e{n}"
            others = f"for (auto& w : e.w) w = x.read();\n{' '.join(loops)} {value} = x.read();"
            return f"for (auto& e : a) {{\ne.k = x.read();\n{others}\n}}"
        everywhere = [0] * len(self.dims), list(self.dims)
        return self.loops(*everywhere, f"{self.element((0,) * len(self.dims))} = x.read();")

    def moving(self) -> str:
        """Sums of elements at some distance, within the bounds of all."""
        offsets = [
            tuple(self.rng.randint(-min(2, dim - 1), min(2, dim - 1)) for dim in self.dims) for _ in range(2)
        ]
        low = [max(0, *(-by for by in each)) for each in zip(*offsets, strict=True)]
        high = [dim - max(0, *each) for dim, each in zip(self.dims, zip(*offsets, strict=True), strict=True)]
        if any(begin >= end for begin, end in zip(low, high, strict=True)):
            return ""
        to, source = offsets
        value = f"3 * {self.element(source)} + {self.element((0,) * len(self.dims))}"
        if self.structs and self.rng.random() < 0.5:
            field = f"a[{self.at(source)[0]}].w[{self.at(to)[-1]}]"
            value = f"{value} + {field} + a[i].k"
        return self.loops(low, high, f"{self.element(to)} = {value};")


def random_places(rng: random.Random, name: str) -> tuple[str, int]:
    """The source of a kernel from x to y, and how many words a call of it reads."""
    dims = tuple(rng.choice((1, 2, 3, 4, 5, 8)) for _ in range(rng.choice((2, 2, 3))))
    places = _Places(rng, dims, structs=rng.random() < 0.6)
    inner = "".join(f"[{dim}]" for dim in dims[1:])
    kind = f"S a[{dims[0]}]" if places.structs else f"T a[{dims[0]}]{inner}"
    everywhere = [0] * len(dims), list(dims)
    body = [
        f"{rng.choice(('static ', ''))}{kind};",
        places.reading(),
        *(places.moving() for _ in range(rng.randint(1, 4))),
        places.loops(*everywhere, f"y.write({places.element((0,) * len(dims))});"),
    ]
    if places.structs:
        body.append("for (const auto& e : a) { y.write(e.k); for (const auto& w : e.w) y.write(w); }")
    text = "\n".join(
        [
            "#include <ap_int.h>\n#include <hls_stream.h>",
            f"using T = ap_uint<{rng.choice((5, 8, 12, 16, 24, 32, 40, 70))}>;",
            f"struct S {{ T k; T v{inner}; T w[{dims[-1]}]; }};",
            f"void {name}(hls::stream<T>& x, hls::stream<T>& y) {{",
            *body,
            "}\n",
        ]
    )
    words = math.prod(dims) + (dims[0] * (1 + dims[-1]) if places.structs else 0)
    return text, words
