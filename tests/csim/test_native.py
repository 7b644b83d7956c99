# SPDX-License-Identifier: Apache-2.0
"""Native builds of kernels: words of any type in and out, and errors that name what is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
from e2hls.base.clang import system_library
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.native import Words, build_native

HEADERS = "".join(f"#include <{name}.h>\n" for name in ("ap_axi_sdata", "ap_int", "hls_stream", "hls_vector"))


@pytest.fixture
def build(tmp_path):
    def compile_kernel(body, name="top"):
        source = tmp_path / f"{name}.cpp"
        source.write_text(HEADERS + body)
        return build_native(Kernel(name, source))

    return compile_kernel


def _words(values, limbs=1, last=()):
    data = np.array([[v >> 64 * i & (1 << 64) - 1 for i in range(limbs)] for v in values], np.uint64)
    flags = np.zeros(len(values), np.bool_)
    flags[list(last)] = True
    return Words(data=data.reshape(-1, limbs), last=flags)


def _ints(words):
    return [sum(int(limb) << 64 * i for i, limb in enumerate(row)) for row in words.data]


def test_words_of_every_type(build):
    kernel = build("""
struct Point { ap_int<5> a; bool b; ap_uint<70> c; };
extern "C" void top(hls::stream<ap_axiu<100, 0, 0, 0>>& x_in, hls::stream<Point>& point_out,
                    hls::stream<hls::vector<ap_int<48>, 3>>& vector_out,
                    hls::stream<unsigned short>& short_out) {
  const ap_axiu<100, 0, 0, 0> beat = x_in.read();
  Point point;
  point.a = beat.data;
  point.b = beat.last;
  point.c = beat.data >> 10;
  point_out.write(point);
  hls::vector<ap_int<48>, 3> vector(ap_int<48>(-1));
  vector[2] = beat.data;
  vector_out.write(vector);
  short_out.write(beat.data.to_uint());
}
""")
    values = [0, (1 << 100) - 1, 0x0123456789ABCDEF0123456789 % (1 << 100)]
    out = kernel.run({"x_in": _words(values, limbs=2, last=[1])})
    assert list(out) == ["point_out", "vector_out", "short_out"]
    wide = (1 << 70) - 1
    assert _ints(out["point_out"]) == [
        v & 31 | (i == 1) << 5 | (v >> 10 & wide) << 6 for i, v in enumerate(values)
    ]
    ones = (1 << 96) - 1
    assert _ints(out["vector_out"]) == [ones | (v & (1 << 48) - 1) << 96 for v in values]
    assert _ints(out["short_out"]) == [v & 0xFFFF for v in values]
    assert kernel.width("x_in") == 100


ROWS = Path(__file__).parents[1] / "unit" / "kernels" / "rows.cpp"


def test_numbers_of_cpp_wrap_as_in_hardware(build):
    kernel = build("""
extern "C" void top(hls::stream<int>& x_in, hls::stream<int>& y_out) {
  const int x = x_in.read();
  y_out.write(x * x / 3);
}
""")
    (word,) = _ints(kernel.run({"x_in": _words([65535])})["y_out"])
    assert word - (1 << 32) == -(131071 // 3)  # 65535 * 65535 is 2**32 - 131071


def row_of(word: int) -> int:
    """What the kernel makes of a word: 3 x 5, 1, 4 x 8, 9, 32 and 4 x 4 bits."""
    a = [word >> 5 * i & 31 for i in range(3)]
    word = word & ~(31 << 5) | ((a[0] + a[2]) % 32) << 5
    word = word & ~(255 << 32) | (word >> 24 & 255) << 32
    return word & ~(15 << 101) | (word >> 89 & 15) << 101


def test_a_struct_may_hold_arrays(rng):
    values = [int.from_bytes(rng.bytes(14), "little") % (1 << 105) for _ in range(20)]
    out = build_native(Kernel("rows", ROWS)).run({"x_in": _words(values, limbs=2)})
    assert _ints(out["y_out"]) == [row_of(value) for value in values]


def test_last_and_several_inputs(build):
    kernel = build("""
using Beat = ap_axiu<8, 0, 0, 0>;
extern "C" void top(hls::stream<Beat>& a_in, hls::stream<ap_uint<8>>& b_in, hls::stream<Beat>& sum_out) {
  Beat beat = a_in.read();
  beat.data += b_in.read();
  sum_out.write(beat);
}
""")
    out = kernel.run({"b_in": _words([1, 2, 250]), "a_in": _words([3, 4, 10], last=[2])})["sum_out"]
    assert _ints(out) == [4, 6, 4]
    assert out.last.tolist() == [False, False, True]


def test_side_channels(build):
    kernel = build("""
using Beat = ap_axiu<16, 70, 3, 0>;
extern "C" void top(hls::stream<Beat>& x_in, hls::stream<Beat>& y_out) {
  Beat beat = x_in.read();
  beat.id = beat.user >> 66;
  y_out.write(beat);
}
""")
    words = _words([1, 2])
    user = np.array([[5, 0x3F], [1 << 63, 0x05]], np.uint64)
    out = kernel.run({"x_in": Words(data=words.data, last=words.last, sides={"user": user})})["y_out"]
    assert sorted(out.sides) == ["id", "keep", "strb", "user"]
    assert out.sides["user"].tolist() == user.tolist()
    assert out.sides["keep"].tolist() == out.sides["strb"].tolist() == [[3], [3]]
    assert out.sides["id"].tolist() == [[7], [1]]
    for sides, message in (
        ({"user": user[:, :1]}, "user of stream x_in must have the shape (2, 2), not (2, 1)"),
        ({"dest": user}, "stream x_in has no side channel dest; it has keep, strb, user, id"),
    ):
        with pytest.raises(HlsError, match=rf"^top: {re.escape(message)}$"):
            kernel.run({"x_in": Words(data=words.data, last=words.last, sides=sides)})


COPY = 'extern "C" void top(hls::stream<ap_uint<8>>& x_in, hls::stream<ap_uint<8>>& y_out) { %s }\n'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(void)x_in; (void)y_out;", "top: a call of the top function took no word from any input"),
        ("y_out.write(x_in.read() + x_in.read());", "top: read from an empty stream"),
    ],
)
def test_errors_of_a_run(build, body, message):
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        build(COPY % body).run({"x_in": _words([1, 2, 3])})


# A kernel's body on lines 6 and 7, the line to blame and the message.
FAULTS = {
    "bit": (
        "ap_uint<8> x = x_in.read();\ny_out.write(x[x]);",
        "7: top: bit 9 of a number of 8 bits is accessed; they are counted from 0 to 7",
    ),
    "negative index": (
        "ap_uint<8> x = x_in.read();\nx[6 - x] = 1; y_out.write(x);",
        "7: top: bit -3 of a number of 8 bits is accessed; they are counted from 0 to 7",
    ),
    "range": (
        "ap_uint<8> x = x_in.read();\ny_out.write(x(x, 0));",
        "7: top: bit 9 of a number of 8 bits is accessed; they are counted from 0 to 7",
    ),
    "range as a target": (
        "ap_uint<8> x = x_in.read();\nx.range(7, x) = 1; y_out.write(x);",
        "7: top: bit 9 of a number of 8 bits is accessed; they are counted from 0 to 7",
    ),
    "division": (
        "const int x = x_in.read().to_int();\ny_out.write(100 / (x - 9));",
        "7: top: division by 0; test the divisor first",
    ),
    "division in ap_int": (
        "hls::stream<int> local; local.write(1); const ap_uint<8> x = x_in.read();\n"
        "y_out.write(x / (x - 9) + local.read());",
        "7: top: division by 0; test the divisor first",
    ),
    "remainder of wide numbers": (
        "const ap_int<200> x = x_in.read();\ny_out.write(x % (x - 9));",
        "7: top: division by 0; test the divisor first",
    ),
    "compound assignment": (
        "ap_uint<8> x = x_in.read();\nx /= x - 9; y_out.write(x);",
        "7: top: division by 0; test the divisor first",
    ),
    "element of an array": (
        "short h[9] = {1, 2}; const int x = x_in.read();\nconst int y = h[x]; y_out.write(y);",
        "7: top: element 9 of an array of type short[9] is accessed",
    ),
    "element of numbers": (
        "static ap_uint<8> h[9]; const int x = x_in.read();\ny_out.write(h[x + 1]++);",
        "7: top: element 10 of an array of type ap_uint<8>[9] is accessed",
    ),
    "element one past the end": (
        "static ap_uint<8> h[9]; const int x = x_in.read();\ny_out.write(h[x]++);",
        "7: top: an element outside of its array is accessed",
    ),
    "negative element": (
        "short h[2][9] = {}; const int x = x_in.read();\nh[1][8 - x] = 1; y_out.write(h[0][x % 2]);",
        "7: top: element -1 of an array of type short[9] is accessed",
    ),
    "element of an outer dimension": (
        "short h[2][9] = {}; const unsigned x = x_in.read();\ny_out.write(h[x == 9 ? 1u << 31 : 1][x % 2]);",
        "7: top: element 2147483648 of an array of type short[2][9] is accessed",
    ),
    "index of ap_int": (
        "char h[9] = {}; const ap_int<70> x = x_in.read();\ny_out.write(h[x - 5 << 2]);",
        "7: top: element 16 of an array of type char[9] is accessed",
    ),
    "index of 128 bits": (
        "char h[9] = {}; const __int128 x = x_in.read().to_int();\ny_out.write(h[5 - x]);",
        "7: top: element -4 of an array of type char[9] is accessed",
    ),
    "element of a vector": (
        "hls::vector<ap_uint<8>, 9> h(7); const int x = x_in.read();\ny_out.write(h[x]);",
        "7: top: element 9 of a vector of 9 is accessed; they are counted from 0 to 8",
    ),
    "element through a pointer": (
        "ap_uint<8> h[9] = {}; ap_uint<8>* const p = h + 1; const int x = x_in.read();\n"
        "y_out.write(p[x - 1] + h[x % 3]);",
        "7: top: an element outside of its array is accessed",
    ),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=list(FAULTS))
def test_a_fault_ends_the_run_with_its_line(build, tmp_path, case):
    body, message = case
    kernel = build(COPY % f"\n{body}\n")
    assert len(kernel.run({"x_in": _words([5])})["y_out"].data) == 1
    for _ in range(2):
        with pytest.raises(HlsError) as raised:
            kernel.run({"x_in": _words([5, 9])})
        assert str(raised.value) == f"{tmp_path}/top.cpp:{message}"


def test_equal_kernels_share_a_library_and_name_their_own_folders(tmp_path, monkeypatch):
    body = "const ap_uint<8> x = x_in.read();\ny_out.write(x[x]);"
    for name in ("first", "second"):
        source = tmp_path / name / "top.cpp"
        source.parent.mkdir()
        source.write_text(HEADERS + COPY % f"\n{body}\n")
        kernel = build_native(Kernel("top", source))
        with pytest.raises(HlsError) as raised:
            kernel.run({"x_in": _words([9])})
        assert str(raised.value).startswith(f"{source}:7: top: bit 9 ")
        monkeypatch.setattr("e2hls.native.library.run_clang", None)


def test_wrong_names_and_limbs(build):
    kernel = build(COPY % "y_out.write(x_in.read());")
    with pytest.raises(HlsError, match=r"^top has no stream 'z'; it has x_in, y_out$"):
        kernel.run({"z": _words([1])})
    with pytest.raises(HlsError, match=r"^top: words of stream x_in must have 1 limbs, not 2$"):
        kernel.run({"x_in": _words([1], limbs=2)})


def test_a_compiler_error_has_its_place(build, tmp_path):
    with pytest.raises(HlsError, match=rf"^{re.escape(str(tmp_path))}/top\.cpp:5:\d+: .*nonsense"):
        build(COPY % "nonsense;")


def test_no_top_function(build):
    with pytest.raises(HlsError, match=r"top\.cpp: there is no function top; it defines other$"):
        build("void other() {}\n")


def test_a_top_function_of_other_ports(build, tmp_path):
    with pytest.raises(HlsError) as raised:
        build("void top(hls::stream<int>& x_in, int n) { (void)x_in.read(); (void)n; }\n")
    assert str(raised.value) == (
        f"{tmp_path}/top.cpp:5:1: every parameter of top must be an hls::stream<...>&, and it returns "
        "nothing; e2train hls check wraps other functions"
    )


def test_a_cpp_function_with_macros(build):
    kernel = build(
        "#define PORT(name) hls::stream<ap_uint<8>> /* , */ &name\n"
        "using In = hls::stream<ap_uint<8>>;\n"
        "void top(In& x_in, PORT(y_out)) { y_out.write(x_in.read() + 1); }\n"
    )
    assert kernel.ports == ("x_in", "y_out")
    assert _ints(kernel.run({"x_in": _words([5])})["y_out"]) == [6]


def test_macros_of_the_kernel(tmp_path):
    source = tmp_path / "top.cpp"
    source.write_text(HEADERS + COPY % "y_out.write(x_in.read() + STEP);")
    for step in (1, 2):
        kernel = build_native(Kernel("top", source, (), (f"STEP={step}",)))
        assert _ints(kernel.run({"x_in": _words([5])})["y_out"]) == [5 + step]
    with pytest.raises(ValueError, match=r"^a macro must be NAME or NAME=VALUE, not '-x'$"):
        Kernel("top", source, (), ("-x",))


def test_calls_one_by_one(build):
    kernel = build(COPY % "y_out.write(x_in.read() + x_in.read());")
    with kernel.start({"x_in": _words([1, 2, 3])}) as run:
        run.call()
        assert (run.size("x_in"), run.size("y_out")) == (1, 1)
        with pytest.raises(HlsError, match=r"^top: read from an empty stream"):
            run.call()
        assert _ints(run.take("y_out")) == [3]
        assert run.size("y_out") == 0


def test_an_edited_header_builds_again(tmp_path):
    source = tmp_path / "top.cpp"
    source.write_text(f'{HEADERS}#include "step.hpp"\n{COPY % "y_out.write(x_in.read() + kStep);"}')
    for step in (1, 2):
        (tmp_path / "step.hpp").write_text(f"constexpr int kStep = {step};\n")
        kernel = build_native(Kernel("top", source))
        assert _ints(kernel.run({"x_in": _words([5])})["y_out"]) == [5 + step]


def test_without_a_linker(build, monkeypatch, tmp_path):
    system_library.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HlsError, match=r"^no g\+\+ on PATH: it links .*apt install build-essential"):
        build(COPY % "y_out.write(x_in.read());")
