# SPDX-License-Identifier: Apache-2.0
"""The design that the front end makes computes what the same C++ computes natively, word for word."""

import random
from pathlib import Path

import numpy as np
import pytest
from checked_flow import lower
from e2hls import Kernel, Words, build_native
from e2hls.ir import Stream
from e2hls.ir.interpreter import run_design
from random_places import random_places

OWN = Path(__file__).parent / "kernels"
SHARED = Path(__file__).parents[1] / "rtl" / "kernels"
# Kernel, and the words per input stream.
CASES = {
    OWN / "control.cpp": 400,
    OWN / "fills.cpp": 300,
    OWN / "operators.cpp": 60,
    OWN / "pointers.cpp": 25 * 10,
    OWN / "rows.cpp": 40,
    OWN / "rows_between.cpp": 16 * 10,
    OWN / "pragmas.cpp": 12 * 30,
    OWN / "statics.cpp": 60,
    SHARED / "banks.cpp": 128,
    SHARED / "fir.cpp": 50,
    SHARED / "matmul.cpp": 256,
    SHARED / "pingpong.cpp": 64,
    SHARED / "places.cpp": 64 * 8,
    SHARED / "references.cpp": 300,
    SHARED / "sides.cpp": 100,
    SHARED / "vadd.cpp": 40,
}
SLOW = {"operators"}
FEW = 8


def corner_words(rng: np.random.Generator, count: int, width: int) -> list[int]:
    """Random words, every third one all zeros, all ones, the most negative or the most positive."""
    corners = [0, (1 << width) - 1, 1 << (width - 1), (1 << (width - 1)) - 1, 1]
    words = [int.from_bytes(rng.bytes(-(-width // 8)), "little") % (1 << width) for _ in range(count)]
    # The last one is all ones: it ends what a kernel has begun.
    return [corners[(i // 3) % 5] if i % 3 == 0 else word for i, word in enumerate(words[:-1])] + [corners[1]]


def to_words(values: list[int], stream: Stream) -> Words:
    """Words of a stream as the native kernel takes them."""
    sides, at = {}, stream.data_bits + stream.axis
    for side, width in stream.sides:
        sides[side] = limbs([value >> at for value in values], width)
        at += width
    last = [bool(stream.axis and value >> stream.data_bits & 1) for value in values]
    return Words(data=limbs(values, stream.data_bits), last=np.array(last, np.bool_), sides=sides)


def limbs(values: list[int], bits: int) -> np.ndarray:
    rows = [[v % (1 << bits) >> (64 * i) & (2**64 - 1) for i in range(-(-bits // 64))] for v in values]
    return np.array(rows, np.uint64).reshape(len(values), -(-bits // 64))


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(source, id=source.stem, marks=[pytest.mark.slow] if source.stem in SLOW else [])
        for source in CASES
    ],
)
def test_design_equals_native(source: Path) -> None:
    assert_exact(Kernel(source.stem, source), CASES[source], np.random.default_rng(len(source.stem)))


def assert_exact(kernel: Kernel, words: int, rng: np.random.Generator) -> None:
    """Words, ends and side channels are those of the native build."""
    design = lower(kernel)
    inputs = {stream.name: corner_words(rng, words, stream.width) for stream in design.inputs}
    got = run_design(design, inputs)
    want = build_native(kernel).run(
        {stream.name: to_words(inputs[stream.name], stream) for stream in design.inputs}
    )
    for stream in design.outputs:
        found = to_words(got[stream.name], stream)
        assert len(found.data) > 0
        for side, values in found.sides.items():
            assert np.array_equal(values, want[stream.name].sides[side])
        assert np.array_equal(found.data, want[stream.name].data)
        assert np.array_equal(found.last, want[stream.name].last)


def test_selected_bits_are_those_of_the_vendor(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <ap_int.h>\n#include <hls_stream.h>\n"
        'extern "C" void k(hls::stream<ap_uint<16>>& x_in, hls::stream<ap_uint<16>>& y_out) {\n'
        "  ap_uint<16> a = x_in.read();\n"
        "  const ap_uint<8> x = a;\n"
        "  y_out.write((a(7, 0), a(15, 8)));\n"
        "  y_out.write(x(0, 7));\n"
        "  y_out.write(x % ap_int<8>(-5));\n"
        "  y_out.write((x(7, 4), x(3, 0)));\n"
        "  y_out.write((a[0], x));\n"
        "  ap_uint<8> high, low;\n"
        "  (high, low) = a;\n"
        "  y_out.write(high);\n"
        "  y_out.write(low);\n"
        "}\n"
    )
    kernel = Kernel("k", source)
    want = [0xCDAB, 0xB3, 0xCD, 0xCD, 0x1CD, 0xAB, 0xCD, 0x5A00, 0x5A, 0x5A, 0x5A, 0x5A, 0, 0x5A]
    native = build_native(kernel).run({"x_in": to_words([0xABCD, 0x5A], Stream(name="x_in", width=16))})[
        "y_out"
    ]
    assert native.data[:, 0].tolist() == want
    assert run_design(lower(kernel), {"x_in": [0xABCD, 0x5A]})["y_out"] == want


def test_a_struct_of_arrays_that_is_passed_as_a_number(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <hls_stream.h>\n"
        "struct Mixed {\n  short of[2];\n  int more[2];\n  char last[4];\n};\n"  # 16 bytes, in two registers
        "static Mixed turned(Mixed m, int by) {\n  Mixed t = m;\n"
        "  for (int i = 0; i < 2; ++i) t.of[(i + by) & 1] = m.of[i];\n  return t;\n}\n"
        'extern "C" void k(hls::stream<short>& x_in, hls::stream<Mixed>& m_in, hls::stream<int>& y_out) {\n'
        "  const short x = x_in.read();\n"
        "  const Mixed m = turned(m_in.read(), x & 1);\n"
        "  y_out.write(m.of[x & 1] * 3 + m.more[x >> 1 & 1] * 5 + m.last[x & 3]);\n"
        "}\n"
    )
    kernel = Kernel("k", source)
    design = lower(kernel)
    rng = np.random.default_rng(1)
    inputs = {stream.name: corner_words(rng, 40, stream.width) for stream in design.inputs}
    words = {stream.name: to_words(inputs[stream.name], stream) for stream in design.inputs}
    want = build_native(kernel).run(words)["y_out"].data[:, 0].tolist()
    assert run_design(design, inputs)["y_out"] == want


def test_a_pipelined_function_unrolls_its_own_loops_alone(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <hls_stream.h>\n"
        "static void twice(short a[4]) {\n  #pragma HLS PIPELINE II=2\n"
        "  for (int i = 0; i < 4; ++i) a[i] *= 2;\n}\n"
        'extern "C" void k(hls::stream<short>& x_in, hls::stream<short>& y_out) {\n  short a[4];\n'
        "fill:\n  for (int i = 0; i < 4; ++i) a[i] = x_in.read();\n  twice(a);\n"
        "send:\n  for (int i = 0; i < 4; ++i) y_out.write(a[i]);\n}\n"
    )
    design = lower(Kernel("k", source))
    (process,) = design.processes
    assert [(loop.name, loop.ii) for loop in process.loops.values()] == [("fill", 0), ("send", 0)]
    assert run_design(design, {"x_in": [1, 2, 3, 40000]})["y_out"] == [2, 4, 6, 80000 % 65536]


@pytest.mark.parametrize(
    "number", [n if n < FEW else pytest.param(n, marks=pytest.mark.slow) for n in range(60)]
)
def test_places_in_arrays_of_several_dimensions(
    number: int, seed: int, rng: np.random.Generator, tmp_path: Path
) -> None:
    text, words = random_places(random.Random(seed), "k")
    source = tmp_path / "k.cpp"
    source.write_text(text)
    assert_exact(Kernel("k", source), 3 * words, rng)
