# SPDX-License-Identifier: Apache-2.0
"""Every operation of ap_int as RTL in Verilator, bit for bit what AMD's headers compute.

A kernel takes a set of operands in one word and gives the results of a group of operations, for several pairs
of types, in another. Narrow operands take all their values, wide ones corners and random values.
"""

from __future__ import annotations

import itertools
import random
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from amd_headers import JUDGE, compile_with_amd, find_amd_headers
from checked_flow import lower
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlOptions
from e2hls.pipeline import generate
from e2hls.simulation.harness import build_simulation

KERNEL = """\
// SPDX-License-Identifier: Apache-2.0
#pragma clang diagnostic ignored "-Wall"
#pragma clang diagnostic ignored "-Wextra"
#include <ap_int.h>
#include <hls_stream.h>

#include "matrix_kernel.hpp"

extern "C" void matrix(hls::stream<ap_uint<{bits} * 2 + 16>>& x_in,
                       hls::stream<hls::vector<ap_uint<64>, {limbs}>>& y_out) {{
  const ap_uint<{bits} * 2 + 16> word = x_in.read();
  const ap_uint<{bits}> a = word >> {bits} + 16;
  const ap_uint<{bits}> b = word >> 16;
  const ap_uint<8> high = word >> 8;
  const ap_uint<8> low = word;
  hls::vector<ap_uint<64>, {limbs}> limbs(0);
  int at = 0;
  Row<{limbs}> row{{limbs, at}};
  all_cases(row, a, b, high.to_int(), low.to_int());
  y_out.write(limbs);
}}
"""
WIDE_ROWS = 200


def types(*widths: int) -> list[str]:
    return [f"ap_{sign}int<{width}>" for width in widths for sign in ("", "u")]


def pairs(group: str, first: Sequence[str], second: Sequence[str]) -> list[str]:
    return [f"{group}({a}, {b})" for a, b in itertools.product(first, second)]


NATIVE = ("bool", "signed char", "unsigned char", "short", "unsigned short", "int", "unsigned", "long")
REFERENCES = ("RANGE", "BIT", "CONCAT", "CONCAT_OPERATORS", "CONCAT_TARGETS")


def references(a: str, b: str) -> list[str]:
    return [f"{group}({a}, {b})" for group in REFERENCES]


@dataclass(frozen=True)
class Group:
    """Operations on the same operands: of this many bits, and with places of bits below this."""

    cases: tuple[str, ...]
    bits: int
    places: int = 1

    @property
    def most_divided_bits(self) -> int:
        """Narrow operands are divided by native ones, too; wide divisions take long to build, see below."""
        return 36 if self.bits <= 4 else 24

    def rows(self, rng: random.Random) -> Iterator[tuple[int, int, int, int]]:
        """The operands, and the places of two bits."""
        if self.bits <= 4:
            values, places = range(1 << self.bits), range(self.places)
            yield from itertools.product(values, values, places, places)
            return
        top = 1 << self.bits - 1
        for _ in range(WIDE_ROWS):
            a, b = (
                rng.choice((0, 1, top, top - 1, 2 * top - 1, rng.randrange(2 * top), rng.getrandbits(8)))
                if rng.random() < 0.4
                else rng.randrange(2 * top)
                for _ in "ab"
            )
            yield a, b, rng.randrange(self.places), rng.randrange(self.places)


QUICK = {
    "quick": Group(
        (
            "NUMBERS(ap_int<3>, ap_uint<2>)",
            "NUMBERS(ap_uint<3>, ap_int<2>)",
            "ALONE(ap_int<3>)",
            "NATIVE(ap_uint<3>, signed char)",
            *(f"{group}(ap_int<3>, ap_uint<2>)" for group in ("BIT", "CONCAT", "CONCAT_TARGETS")),
        ),
        bits=3,
        places=3,
    ),
}
SWEEP = {
    **{
        f"numbers of {w} bits": Group(tuple(pairs("NUMBERS", types(w), types(1, 2, 3, 4))), bits=4)
        for w in (1, 2, 3, 4)
    },
    "single narrow": Group(tuple(f"ALONE({a})" for a in types(1, 2, 3, 4)), bits=4, places=4),
    "wide numbers": Group(
        (
            *pairs("NUMBERS", types(8), types(13)),
            *pairs("NUMBERS", types(31, 32, 33), types(32)),
            "NUMBERS(ap_int<20>, ap_uint<40>)",
            "NUMBERS(ap_uint<63>, ap_int<64>)",
            "NUMBERS(ap_uint<64>, ap_int<64>)",
            "NUMBERS(ap_int<65>, ap_uint<31>)",
            "NUMBERS(ap_uint<100>, ap_int<100>)",
        ),
        bits=100,
    ),
    "single wide": Group(tuple(f"ALONE({a})" for a in types(8, 32, 33, 64, 65, 128)), bits=128, places=128),
    "natives": Group(tuple(pairs("NATIVE", ["ap_int<5>", "ap_uint<33>"], NATIVE)), bits=64),
    **{
        f"references into {a}": Group(tuple(references(a, b)), bits=4, places=4)
        for a, b in (("ap_int<1>", "ap_int<4>"), ("ap_uint<3>", "ap_int<2>"), ("ap_int<4>", "ap_uint<1>"))
    },
    **{
        f"references into {a}": Group(tuple(references(a, b)), bits=70, places=int(a[a.index("<") + 1 : -1]))
        for a, b in (("ap_uint<32>", "ap_int<9>"), ("ap_int<66>", "ap_uint<20>"))
    },
}


@pytest.mark.parametrize(
    "group",
    [pytest.param(group, id=name) for name, group in QUICK.items()]
    + [pytest.param(group, id=name, marks=pytest.mark.slow) for name, group in SWEEP.items()],
)
def test_rtl_computes_what_amd_computes(group: Group, tmp_path: Path, seed: int) -> None:
    rows = list(group.rows(random.Random(seed)))
    program = _with_amd(group, tmp_path)
    layout = _layout(program, rows[0])
    limbs = -(-(layout[-1].at + layout[-1].width) // 64)
    with ThreadPoolExecutor() as both:
        amd = both.submit(_run, program, rows)
        got = _in_rtl(group, limbs, rows, tmp_path)
        want = [int(line, 16) for line in amd.result()]
    assert len(want) == len(got) == len(rows)
    wrong = [
        f"{each.name} of {row}: AMD's headers give {each.of(one):#x}, the RTL {each.of(other):#x}"
        for row, one, other in zip(rows, want, got, strict=True)
        if one != other
        for each in layout
        if each.of(one) != each.of(other)
    ]
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:20])


REFUSED = {
    "bit": ("x[64]", "bit 64 of a number of 64 bits is accessed; they are counted from 0 to 63"),
    "range": ("x(-1, 0)", "bit -1 of a number of 64 bits is accessed; they are counted from 0 to 63"),
    "concatenation": (
        "(x, x(3, 65))",
        "bit 65 of a number of 64 bits is accessed; they are counted from 0 to 63",
    ),
}


@pytest.mark.parametrize(("expression", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_rtl_cannot_do_is_refused(expression: str, message: str, tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <ap_int.h>\n#include <hls_stream.h>\nusing Stream = hls::stream<ap_uint<64>>;\n"
        'extern "C" void k(Stream& x_in, Stream& y_out) {\n'
        f"  ap_uint<64> x = x_in.read();\n  y_out.write({expression});\n}}\n"
    )
    with pytest.raises(HlsError) as refused:
        generate(lower(Kernel("k", source)), RtlOptions(), tmp_path / "rtl")
    assert refused.value.message == message
    assert refused.value.loc is not None
    assert (refused.value.loc.file, refused.value.loc.line) == (str(source), 6)


DIVISIONS = """\
#include <ap_int.h>
#include <hls_stream.h>
void divide(hls::stream<ap_uint<128>>& x_in, hls::stream<ap_uint<260>>& y_out) {
  const ap_uint<128> word = x_in.read();
  const ap_uint<64> a = word >> 64;
  const ap_uint<64> b = word;
  const ap_int<64> s = a;
  const ap_int<64> t = b;
  const ap_int<65> quotient = s / t;  // one bit wider than -2^63 / -1 needs
  y_out.write((quotient, ap_int<65>(s % t), ap_uint<65>(a / b), ap_uint<65>(a % b)));
}
"""


@pytest.mark.slow
def test_wide_divisions(rng: np.random.Generator, tmp_path: Path) -> None:
    corners = (1, 2, 3, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
    drawn = [int.from_bytes(rng.bytes(8), "little") >> int(rng.integers(60)) for _ in range(80)]
    operands = [
        *itertools.product((0, *corners), corners),
        *((a, b or 1) for a, b in itertools.pairwise(drawn)),
    ]
    source = tmp_path / "divide.cpp"
    source.write_text(DIVISIONS)
    design = generate(lower(Kernel("divide", source)), RtlOptions(), tmp_path / "rtl")
    simulation = build_simulation(design, tmp_path / "sim")
    words = [a << 64 | b for a, b in operands]
    got, _ = simulation.run({"x_in": words}, {"y_out": len(words)}, stall=0.3)
    for (a, b), word in zip(operands, got["y_out"], strict=True):
        s, t = (value - (value >> 63 << 64) for value in (a, b))
        quotient = abs(s) // abs(t) * (1 if (s < 0) == (t < 0) else -1)
        wanted = (quotient, s - quotient * t, a // b, a % b)
        assert word == sum((value % (1 << 65)) << 65 * at for at, value in enumerate(reversed(wanted))), (
            a,
            b,
        )


@dataclass(frozen=True)
class _Result:
    """Where one result lies in the word of all."""

    name: str
    at: int
    width: int

    def of(self, word: int) -> int:
        return word >> self.at & (1 << self.width) - 1


def _with_amd(group: Group, folder: Path) -> Path:
    (folder / "cases.inc").write_text("".join(f"{case}\n" for case in group.cases))
    options = (f"-I{folder}", f"-DMOST_DIVIDED_BITS={group.most_divided_bits}")
    compile_with_amd(JUDGE / "matrix.cpp", folder / "amd", find_amd_headers(), *options)
    return folder / "amd"


def _layout(program: Path, row: tuple[int, int, int, int]) -> list[_Result]:
    lines = [line.rsplit("|", 2) for line in _run(program, [row], "layout")]
    return [_Result(name, int(at), int(width)) for name, at, width in lines]


def _run(program: Path, rows: Sequence[tuple[int, int, int, int]], *arguments: str) -> list[str]:
    half = 1 << 64
    text = "".join(
        f"{a // half:x} {a % half:x} {b // half:x} {b % half:x} {high} {low}\n" for a, b, high, low in rows
    )
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _in_rtl(group: Group, limbs: int, rows: Sequence[tuple[int, int, int, int]], folder: Path) -> list[int]:
    source = folder / "matrix.cpp"
    head = f"#define MOST_DIVIDED_BITS {group.most_divided_bits}\n"
    source.write_text(head + KERNEL.format(bits=group.bits, limbs=limbs))
    design = generate(lower(Kernel("matrix", source, (JUDGE, folder))), RtlOptions(), folder / "rtl")
    simulation = build_simulation(design, folder / "sim")
    words = [((a << group.bits | b) << 8 | high) << 8 | low for a, b, high, low in rows]
    got, _ = simulation.run({"x_in": words}, {"y_out": len(rows)}, stall=0.3)
    return got["y_out"]
