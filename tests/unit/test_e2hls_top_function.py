# SPDX-License-Identifier: Apache-2.0
"""Which function of a source is the top, and what its ports are; the wrapper that is written for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from checked_flow import lower
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.checking import wrap
from e2hls.frontend.compile import preprocess
from e2hls.frontend.top_function import TopFunction, find_top
from e2hls.native import build_native

HEAD = "#define N 8\ntypedef short data_t;\nnamespace hls { template <typename T> class stream; }\n"


def top(tmp_path: Path, text: str, name: str | None = None) -> TopFunction:
    source = tmp_path / "filter.cpp"
    source.write_text(HEAD + text)
    return find_top(preprocess(Kernel("top", source)), source, name)


def message(tmp_path: Path, text: str, name: str | None = None) -> str:
    with pytest.raises(HlsError) as raised:
        top(tmp_path, text, name)
    return str(raised.value).replace(f"{tmp_path}/", "")


def test_parameters_as_they_are_written(tmp_path: Path) -> None:
    found = top(
        tmp_path,
        "typedef hls::stream<int> Words;\nusing Bytes = hls::stream<char>;\n"
        "int other(data_t);\n"  # a declaration
        "struct Pair { int a[2]; void filter(); };\n"
        'extern "C" {\n'
        "data_t filter(const data_t x[N][2 * N], int *p, data_t& sum, Pair pair = {{1, 2}},\n"
        "  hls::stream<Pair> &s_in, Words& w, Bytes& b /* , int c */, int open[]) {\n"
        "  return other(p[0]) + sum;\n}\n}\n",
    )
    assert (found.name, found.returns, found.only_streams, found.loc.line) == ("filter", True, False, 10)
    rows = [
        (each.name, each.bounds, each.reference, each.pointer, each.stream, each.constant)
        for each in found.parameters
    ]
    assert rows == [
        ("x", ("8", "2 * 8"), False, False, False, True),
        ("p", (), False, True, False, False),
        ("sum", (), True, False, False, False),
        ("pair", (), False, False, False, False),
        ("s_in", (), True, False, True, False),
        ("w", (), True, False, True, False),
        ("b", (), True, False, True, False),
        ("open", (), False, True, False, False),
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("void a() {} void filter() { a(); } void b() { filter(); }", "filter"),  # the file's name
        ("static void a() {} void b() { a(); } template <int K> void c() {} int main() { b(); }", "b"),
        ("inline void a() {} struct S { void b() {} }; int c[] = {1}; void d(void) {}", "d"),
    ],
)
def test_the_top_is_found(tmp_path: Path, text: str, name: str) -> None:
    assert top(tmp_path, text).name == name


def test_a_named_top_may_be_called_by_others(tmp_path: Path) -> None:
    assert top(tmp_path, "void a() {} void filter() { a(); }", "a").name == "a"


@pytest.mark.parametrize(
    ("text", "name", "want"),
    [
        (
            *("void a() {} void b() {}", None),
            "filter.cpp: several functions that can be the top: a, b; name one of them by --top",
        ),
        ("int x;", None, "filter.cpp: no function that can be the top"),
        ("void a() {}", "b", "filter.cpp: there is no function b; it defines a"),
        (
            *("void a(int x) {}\nvoid a(char x) {}", "a"),
            "filter.cpp:5:1: several functions are named a; rename all but the one that is to be the top",
        ),
        ("void a(int) {}", "a", "filter.cpp:4:1: parameter 1 of a has no name; give it one"),
    ],
)
def test_what_is_no_top_is_one_line(tmp_path: Path, text: str, name: str | None, want: str) -> None:
    assert message(tmp_path, text, name) == want


def test_options_of_interface_pragmas(tmp_path: Path) -> None:
    found = top(
        tmp_path,
        "void filter(int* a, int* b, int n) {\n"
        "  #pragma HLS INTERFACE m_axi port=a depth=(N * 2) bundle=gmem0\n"
        "  #pragma HLS interface mode=s_axilite port=n\n"
        "#pragma HLS dataflow\n"
        "  #pragma HLS INTERFACE s_axilite port=return\n}\n",
    )
    assert found.dataflow
    assert found.interface("a") == {"mode": "m_axi", "port": "a", "depth": "(8 * 2)", "bundle": "gmem0"}
    assert found.interface("n") == {"mode": "s_axilite", "port": "n"}
    assert found.interface("b") == {}


def test_streams_alone_need_no_wrapper(tmp_path: Path) -> None:
    text = "void filter(hls::stream<int>& a) {\n  #pragma HLS INTERFACE %s\n}\n"
    kernel = Kernel("filter", tmp_path / "filter.cpp")
    assert wrap(kernel, top(tmp_path, text % "axis port=a")).kernel is kernel
    wrapped = wrap(kernel, top(tmp_path, text % "s_axilite port=return"))
    assert (wrapped.kernel.name, wrapped.kernel.left_out) == ("filter", ("INTERFACE",))
    assert wrapped.note == "the interface itself is not checked: s_axilite of filter"


@pytest.mark.parametrize(
    ("parameter", "body"),
    [
        ("int* x", "#pragma HLS INTERFACE m_axi port=x bundle=gmem"),
        ("int x[]", ""),
        ("int* x", "x[0] = x[1];"),
        ("int* x", "*x = *(x + 1);"),
        ("int* x", "*++x = 0;"),
        ("int* x", "int y = *x++; (void)y;"),
    ],
)
def test_a_depth_that_is_not_known_is_one_line(tmp_path: Path, parameter: str, body: str) -> None:
    found = top(tmp_path, f"void filter({parameter}) {{\n{body}\n}}\n")
    kernel = Kernel("filter", tmp_path / "filter.cpp")
    with pytest.raises(HlsError) as raised:
        wrap(kernel, found)
    assert str(raised.value) == (
        f"{tmp_path}/filter.cpp:4:1: how many elements x of filter has is not known; "
        "add depth= to its pragma HLS INTERFACE, write x[COUNT], or say --depth x=COUNT"
    )
    assert "Type0 x[3];" in wrap(kernel, found, {"x": 3}).kernel.source.read_text()


def test_a_pointer_to_one_value_needs_no_depth(tmp_path: Path) -> None:
    found = top(
        tmp_path, "struct S { int a; };\nvoid filter(int* x, S* s) { *x = x[0] * 2; s->a = *x - 1; }\n"
    )
    text = wrap(Kernel("filter", tmp_path / "filter.cpp"), found).kernel.source.read_text()
    assert "Type0 x[1];" in text
    assert "Type1 s[1];" in text


def test_a_depth_of_what_is_no_pointer_is_one_line(tmp_path: Path) -> None:
    found = top(tmp_path, "void filter(int n, int* x) {}\n")
    with pytest.raises(HlsError) as raised:
        wrap(Kernel("filter", tmp_path / "filter.cpp"), found, {"n": 3})
    assert str(raised.value) == (
        f"{tmp_path}/filter.cpp:4:1: filter has no pointer 'n' to give a depth; it has x"
    )


FLOW = "void filter(%s) {\n  #pragma HLS DATAFLOW\n  %s\n}\n"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (FLOW % ("int x[4]", "x[1] = x[0];"), "x is both read and written"),
        (FLOW % ("int& n, int x[4]", "x[1] = ++n;"), "n is both read and written"),
        (FLOW.replace("void", "int") % ("const int x[4]", "return x[1];"), "filter returns a value"),
    ],
)
def test_a_dataflow_that_hands_on_no_whole_arrays_is_serial(
    tmp_path: Path, function: str, reason: str
) -> None:
    wrapped = wrap(Kernel("filter", tmp_path / "filter.cpp"), top(tmp_path, function))
    assert wrapped.kernel.left_out == ("INTERFACE", "DATAFLOW")
    assert wrapped.note.endswith(f"; DATAFLOW is left out, since {reason}: functions run one after the other")
    assert "DATAFLOW" not in wrapped.kernel.source.read_text()


def test_a_dataflow_is_filled_and_sent_by_processes(tmp_path: Path) -> None:
    process = "static void second(const int* x, int* y) { y[0] = x[1]; }\n"
    source = tmp_path / "filter.cpp"
    source.write_text(process + FLOW % ("const int x[4], int* y, int unused[2]", "second(x, y);"))
    wrapped = wrap(Kernel("filter", source), find_top(preprocess(Kernel("top", source)), source, None))
    body = wrapped.kernel.source.read_text().partition('extern "C"')[2].splitlines()[3:]
    assert [line.strip() for line in body] == [
        "#pragma HLS DATAFLOW",
        "e2hls_wrapper::Type0 x[4];",
        "e2hls_wrapper::fill_x(x, x_in);",
        "e2hls_wrapper::Type1 y[1];",
        "e2hls_wrapper::Type2 unused[2];",
        "[[clang::always_inline]] filter(x, y, unused);",
        "e2hls_wrapper::send_y(y, y_out);",
        "}",
    ]


@pytest.mark.parametrize(
    ("function", "want"),
    [
        ("int filter(int n, const real a[4]) { return n; }", "the parameter a of filter is floating point"),
        ("real filter(int n) { return n; }", "the result of filter is floating point"),
        (
            "int filter(const Pair& p) { return p.a; }",
            "the parameter p of filter must consist of integers, enums, ap_int, hls::vector, arrays and "
            "plain structs of these",
        ),
    ],
)
def test_types_that_no_stream_has_are_refused_where_the_function_is(
    tmp_path: Path, function: str, want: str
) -> None:
    source = tmp_path / "filter.cpp"
    source.write_text(f"typedef float real;\nstruct Pair {{ int a; real b; }};\n{function}\n")
    kernel = Kernel("filter", source)
    wrapped = wrap(kernel, find_top(preprocess(kernel), source, None)).kernel
    for build in (lower, build_native):
        with pytest.raises(HlsError) as raised:
            build(wrapped)
        hint = "" if "must" in want else ", which is not supported; use ap_int with a scale of your own"
        assert str(raised.value) == f"{source}:3:1: {want}{hint}"
