# SPDX-License-Identifier: Apache-2.0
"""The native side of a check: how many words calls take, and which random words are small enough."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import PortReport
from e2hls.checking import Reference, reference
from e2hls.checking.kernel import find_kernel
from e2hls.checking.stimuli import LIMITS

HEAD = """\
#include <ap_int.h>
#include <hls_stream.h>
#include <cassert>
#include <cstdlib>
typedef hls::stream<int> Ints;
"""


def ports(*names: str) -> tuple[PortReport, ...]:
    """Of 32 bits; the last one is the output."""
    return tuple(PortReport(name=name, data_bits=32, axis=False, output=name == names[-1]) for name in names)


@pytest.fixture
def run(tmp_path: Path):
    def run_body(body: str, *inputs: str, defines: tuple[str, ...] = (), **options: object) -> Reference:
        source = tmp_path / "top.cpp"
        parameters = ", ".join(f"Ints& {name}" for name in (*inputs, "y"))
        source.write_text(f"{HEAD}void top({parameters}) {{\n{body}\n}}\n")
        kernel = Kernel("top", source, (), defines)
        return reference(kernel, ports(*inputs, "y"), **{"given": {}, **options})

    return run_body


def test_a_count_of_words_is_drawn_small(run) -> None:
    body = "const int n = n_in.read(); for (int i = 0; i < n; ++i) y.write(x.read());\ny.write(n);"
    found = run(body, "n_in", "x", scalars=frozenset({"n_in"}))
    assert found.limits == "scalars below 128"
    assert "read from an empty stream" in found.refused
    assert 15 < max(found.inputs["n_in"]) < 128
    assert len(found.inputs["x"]) == sum(found.inputs["n_in"])
    assert len(found.outputs["y"]) == len(found.inputs["x"]) + found.calls


def test_a_call_that_takes_many_words_gets_them(run) -> None:
    found = run("int s = 0; for (int i = 0; i < 5000; ++i) s += x.read();\ny.write(s);", "x")
    assert (found.limits, found.calls) == ("", 3)
    assert len(found.inputs["x"]) == 15_000
    assert len(found.further["y"]) == 2


def test_given_words_are_used_up(run) -> None:
    found = run("y.write(x.read() + z.read());", "x", "z", given={"x": [1, 2, 3]})
    assert found.inputs["x"] == [1, 2, 3]
    assert [(1 + i + z) % 2**32 for i, z in enumerate(found.inputs["z"])] == found.outputs["y"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("static char h[4]; const int n = x.read();\ny.write(h[n | 8]);", "element "),
        (
            "if (x.read() >= 0 || true) std::exit(0);\ny.write(1);",
            "the native build ended this process before it returned",
        ),
        ("if (x.read() >= 0 || true) std::abort();\ny.write(1);", "the native build crashed (SIGABRT)"),
    ],
)
def test_a_kernel_that_fails_with_any_words_is_one_line(
    run, body: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2hls.checking.native_side.LIMITS", LIMITS[:2])
    with pytest.raises(HlsError) as raised:
        run(body, "x")
    assert message in str(raised.value)
    assert str(raised.value).endswith(
        "; smaller random words fail too: correct the kernel, or give words by --input if only some are valid"
    )


# What a check finds at the word -3 on line 8, and no native build for a device looks for.
FOUND = {
    "shift": (
        "const int n = x.read();\ny.write(n == -3 ? 1 << (n & 63) : 0);",
        "a number of type int is shifted by 61; shift by 0 to 31, or shift an ap_int",
    ),
    "negative shift": (
        "const int n = x.read();\nlong v = 7; v >>= n; y.write(v);",
        "a number of type long is shifted by -3; shift by 0 to 63, or shift an ap_int",
    ),
    "shift of elements": (
        "const int n = x.read();\nunsigned v[4] = {1}; v[n & 3] <<= 30 - n; y.write(v[0]);",
        "a number of type unsigned int is shifted by 33; shift by 0 to 31, or shift an ap_int",
    ),
    "element that is written to a stream": (
        "static const int t[3] = {1, 2, 3}; const int n = x.read();\ny.write(t[n < 0 ? -n : n - 1]);",
        "an element outside of its array is accessed",
    ),
    "assertion": (
        'const int n = x.read();\nassert(n >= 0 && "a, b"); y.write(n);',
        'the assertion n >= 0 && "a, b" does not hold',
    ),
    "array of numbers without values": (
        "const int n = x.read(); ap_uint<8> t[4];\n"
        "for (int i = 0; i < 4 - n / 3; ++i) t[i] = n;\ny.write(t[1]);",
        "an element outside of its array is accessed",
    ),
}


@pytest.mark.parametrize(("body", "message"), FOUND.values(), ids=list(FOUND))
def test_a_check_names_the_line_and_the_word(run, tmp_path: Path, body: str, message: str) -> None:
    assert run(body, "x", given={"x": [1, 2]}).calls == 2
    with pytest.raises(HlsError) as raised:
        run(body, "x", given={"x": [1, 2, -3 % 2**32, 4]})
    place = f"{tmp_path}/top.cpp:8: top: "
    assert str(raised.value) == f"{place}{message} (in call 2, up to word 2 of x)"


def test_an_array_past_its_constant_end_is_found(run, tmp_path: Path) -> None:
    body = "ap_uint<8> t[4];\nfor (int i = 0; i <= 4; ++i) t[i] = x.read();\ny.write(t[0] + t[3]);"
    with pytest.raises(HlsError) as raised:
        run(body, "x", given={"x": range(5)})
    assert str(raised.value).startswith(
        f"{tmp_path}/top.cpp:8: top: an element outside of its array is accessed"
    )


def test_an_array_of_the_parameters_past_its_end_is_found(tmp_path: Path) -> None:
    source = tmp_path / "moved.cpp"
    source.write_text(
        "void moved(const int a[8], int b[8]) {\n  for (int i = 0; i < 8; ++i)\n    b[i] = a[i + 1];\n}\n"
    )
    names = ("a_in", "b_in", "b_out")
    with pytest.raises(HlsError) as raised:
        reference(find_kernel(source).kernel, ports(*names), {"a_in": range(8), "b_in": range(8)})
    assert str(raised.value) == (
        f"{source}:3: moved_wrapper: an element outside of its array is accessed "
        "(in call 0, up to word 7 of a_in, word 7 of b_in)"
    )


def test_shifts_in_the_headers_are_no_fault(run) -> None:
    body = (
        "const ap_int<32> a = x.read(); const ap_int<90> w = a; const ap_int<7> by = a;\n"
        "y.write(((w << by) ^ (w >> by) ^ (a << 40) ^ (a >> 40) ^ w(a & 63, 5) ^ (w << (int)by)).to_int());"
    )
    assert run(body, "x").limits == ""


OVERFLOWS = {
    "sum": ("y.write(n + 1 > n);", 2**31 - 1, "2147483647 + 1 overflows int", 0),
    "difference": ("y.write(-2 - n);", 2**31 - 1, "-2 - 2147483647 overflows int", 2**31 - 1),
    "product": ("y.write(n * 2 / 2);", 2**31 - 1, "2147483647 * 2 overflows int", 2**32 - 1),
    "negation": ("y.write(-n);", 2**31, "-(-2147483648) overflows int", 2**31),
    "increment": ("int m = n; y.write(++m);", 2**31 - 1, "2147483647 + 1 overflows int", 2**31),
    "long": (
        "const long m = (1L << 62) + n; y.write((m + m) >> 32);",
        3,
        "4611686018427387907 + 4611686018427387907 overflows long",
        2**31,
    ),
}


@pytest.mark.parametrize(("body", "word", "what", "wrapped"), OVERFLOWS.values(), ids=list(OVERFLOWS))
def test_an_overflow_is_named_and_wraps_around(
    run, tmp_path: Path, body: str, word: int, what: str, wrapped: int
) -> None:
    found = run(f"const int n = x.read();\n{body}", "x", given={"x": [word]})
    why = "which C++ leaves undefined; use a wider type, an unsigned one or ap_int"
    assert found.overflow == f"{tmp_path}/top.cpp:8: {what}, {why}"
    assert found.outputs["y"] == [wrapped]


def test_a_quotient_that_overflows_is_no_division_by_zero(run, tmp_path: Path) -> None:
    body = "const int n = x.read();\ny.write(n / (n >> 31));"
    why = "which C++ leaves undefined; use a wider type, an unsigned one or ap_int"
    for word, message in (
        (2**31, f"the division -2147483648 / -1 overflows int, {why}"),
        (1, "division by 0; test the divisor first"),
    ):
        with pytest.raises(HlsError) as raised:
            run(body, "x", given={"x": [word]})
        assert str(raised.value) == f"{tmp_path}/top.cpp:8: top: {message} (in call 0, up to word 0 of x)"


def test_what_wraps_around_by_definition_is_no_overflow(run) -> None:
    body = (
        "ap_int<32> a = x.read(); ap_int<8> b = a; ap_uint<40> c = a; unsigned u = a; short s = u;\n"
        "++a; b++; a += 1; b -= 100; b = b * b; a = a * a - (-a); a <<= 3; c = c * c; u *= u; s += 30000;\n"
        "y.write(a + b + c.to_int() + u + s);"
    )
    assert run(body, "x").overflow == ""


def test_ndebug_drops_assertions(run) -> None:
    body = "assert(false);\ny.write(x.read());"
    assert run(body, "x", defines=("NDEBUG",), given={"x": [3]}).outputs["y"] == [3]
    with pytest.raises(HlsError, match="the assertion false does not hold"):
        run(body, "x", given={"x": [3]})


def test_words_stay_large_where_scalars_must_be_small(run) -> None:
    found = run(
        "static int h[4] = {1, 2, 3, 4}; const int n = n_in.read();\ny.write(h[n + 3] ^ x.read());",
        *("n_in", "x"),
        scalars=frozenset({"n_in"}),
    )
    assert found.limits == "scalars below 1"
    assert max(found.inputs["x"]) > 2**31
    assert "element" in found.refused


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "while (true) y.write(x.read());",
            "top: read from an empty stream: one call took 64 words of x and wants more; a function that is "
            "checked must return: give its loops an end",
        ),
        (
            "Ints inner;\ny.write(x.read() + inner.read());",
            "top: read from an empty stream inside the kernel; what writes it must run before what reads it",
        ),
    ],
    ids=["loop without an end", "stream inside"],
)
def test_what_reads_too_much_is_named(run, body: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2hls.checking.native_side._SUPPLIES", (16, 64))
    with pytest.raises(HlsError) as raised:
        run(body, "x")
    assert str(raised.value).split("; smaller")[0] == message
    assert ("--input" in str(raised.value)) == ("inside" in message)


def test_a_loop_without_effect_may_be_endless(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2hls.checking.native_side.LIMITS", LIMITS[:1])
    with pytest.raises(HlsError) as raised:
        run("int v = x.read();\nwhile (v != 7) { v = v; }\ny.write(v);", "x", given={"x": [7, 8]})
    assert str(raised.value) == (
        "top: the native build did not end within 5 s; a function that is checked must return: give its "
        "loops an end"
    )
