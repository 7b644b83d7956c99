# SPDX-License-Identifier: Apache-2.0
"""Functions under DATAFLOW with arrays and scalars: their processes are kept, or run one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2hls import HlsError, build_rtl, check
from e2hls.checking.kernel import find_kernel

# Processes that hand arrays on, in a function of arrays.
DIAMOND = """\
typedef unsigned char data_t;
void split(const data_t x[9], data_t a[9], data_t b[9]) {
  for (int i = 0; i < 9; ++i) {
    a[i] = x[i] * 3;
    b[i] = x[i] + 1;
  }
}
void join(const data_t a[9], const data_t b[9], data_t y[9]) {
  for (int i = 0; i < 9; ++i) y[i] = a[i] ^ b[8 - i];
}
void diamond(data_t x[9], data_t y[9]) {
#pragma HLS DATAFLOW
  data_t a[9], b[9];
  split(x, a, b);
  join(a, b, y);
}
"""
# Processes that a scalar goes to, as it is, by reference, and as what is computed of it.
SIZED = """\
#include <hls_stream.h>
#include <ap_int.h>
typedef ap_uint<16> word_t;
typedef hls::stream<word_t> Words;
struct Scale { short by; bool negate; };
static void load(const word_t* x, Words& words, int n) {
  for (int i = 0; i < n; ++i) words.write(x[i]);
}
static void scale(Words& words, Words& scaled, const Scale& how, int n) {
  for (int i = 0; i < n; ++i) {
    const int product = words.read() * how.by;
    scaled.write(how.negate ? -product : product);
  }
}
static void store(word_t* y, Words& scaled, unsigned char blocks) {
  for (int i = 0; i < blocks; ++i) {
    for (int j = 0; j < 4; ++j) y[4 * i + j] = scaled.read() + blocks;
  }
}
static void count(const word_t* x, Words& words, int& n) {  // the words that follow are waited for by n
  n = x[0] & 31;
  for (int i = 0; i < n; ++i) words.write(x[i]);
}
static void keep(Words& words, word_t* z, const int& n, unsigned char& last) {
  for (int i = 0; i < n; ++i) z[i] = words.read();
  last = n;
}
void counted(const word_t x[32], word_t z[32], unsigned char& last) {
#pragma HLS DATAFLOW
  Words words("words");
  int n;
  count(x, words, n);
  keep(words, z, n, last);
}
void sized(const word_t x[32], word_t y[32], unsigned char blocks, const Scale& how, bool whole) {
#pragma HLS DATAFLOW
  Words words("words"), scaled("scaled");
  const int n = whole ? 4 * blocks : 4 * (blocks / 2);
  load(x, words, n);
  scale(words, scaled, how, n);
  store(y, scaled, n / 4);
}
"""
# A DATAFLOW that is a program, not a list of calls.
REPEATED = """\
void copy(const int x[4], int y[4]) {
  for (int i = 0; i < 4; ++i) y[i] = x[i];
}
void repeated(const int x[4], int y[4], unsigned char times) {
#pragma HLS DATAFLOW
  for (int i = 0; i < times; ++i) copy(x, y);
}
"""
# What no stream can carry: an address, and a scalar that a call may leave as it was.
WINDOW = """\
static int get(const int* x, unsigned char i) { return x[i]; }
static void copy(const int* x, int y[4]) {
  for (unsigned char i = 0; i < 4; ++i) y[i] = get(x, i);
}
static void mark(int n, int& err) {
  if (n & 1) err = n;
}
void window(const int x[8], int y[4], unsigned char start) {
#pragma HLS DATAFLOW
  copy(&x[start & 3], y);
}
void marked(int n, int& err) {
#pragma HLS DATAFLOW
  mark(n, err);
}
"""


def test_a_function_under_dataflow_keeps_its_processes(tmp_path: Path) -> None:
    source = tmp_path / "diamond.cpp"
    source.write_text(DIAMOND)
    report = check(source)
    assert report.exact, report.lines
    assert report.words == {"x_in": 9 * report.calls, "y_out": 9 * report.calls}
    processes = [process.name for process in report.design.report.processes]
    assert processes == ["fill_x", "split", "join", "send_y"]


def test_scalars_go_to_the_processes_of_a_dataflow(tmp_path: Path) -> None:
    source = tmp_path / "sized.cpp"
    source.write_text(SIZED)
    words = {"x_in": range(96), "blocks_in": [8, 5, 1], "how_in": None, "whole_in": [1, 0, 1]}
    report = check(source, inputs={name: given for name, given in words.items() if given is not None})
    assert report.exact, report.lines
    assert (report.calls, report.words["y_out"]) == (3, 96)
    assert report.undefined == {"y_out": 96 - 4 * (8 + 2 + 1)}
    processes = {process.name for process in report.design.report.processes}
    assert {"load", "scale", "store"} < processes


def test_a_scalar_comes_before_the_words_that_it_counts(tmp_path: Path) -> None:
    source = tmp_path / "sized.cpp"
    source.write_text(SIZED)
    report = check(source, top="counted")
    assert report.exact, report.lines
    assert report.words["last_out"] == report.calls
    assert "DATAFLOW" not in report.note


@pytest.mark.parametrize(
    ("top", "reason"),
    [
        ("window", ":10:3: where x of copy begins is decided at run time; pass the array and an index"),
        ("marked", "mark does not write err in every call"),
    ],
)
def test_what_a_dataflow_cannot_hand_over_is_checked_without(tmp_path: Path, top: str, reason: str) -> None:
    source = tmp_path / "window.cpp"
    source.write_text(WINDOW)
    note = find_kernel(source, top=top).note
    _, _, rest = note.partition("; DATAFLOW is left out, since ")
    assert rest.removeprefix(str(source)) == f"{reason}: functions run one after the other", note


def test_a_dataflow_that_is_a_program_is_checked_without(tmp_path: Path) -> None:
    source = tmp_path / "repeated.cpp"
    source.write_text(REPEATED)
    wrapped = find_kernel(source)
    assert [process.name for process in build_rtl(wrapped.kernel).report.processes] == ["repeated_wrapper"]
    assert wrapped.note.endswith(
        f"; DATAFLOW is left out, since {source}:6:3: a DATAFLOW function may only declare variables, "
        "compute values and call functions; branches and loops are for its processes: functions run one "
        "after the other"
    )


@pytest.mark.slow
def test_a_dataflow_with_an_array_of_both_ways_runs_one_function_after_the_other(tmp_path: Path) -> None:
    source = tmp_path / "diamond.cpp"
    source.write_text(DIAMOND.replace("data_t y[9]) {\n#", "data_t y[9], int n) {\n  if (n) x[0] = 1;\n#"))
    report = check(source)
    assert report.exact, report.lines
    assert [process.name for process in report.design.report.processes] == ["diamond_wrapper"]


def test_a_scalar_that_is_read_before_it_is_written_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "late.cpp"
    source.write_text(
        "#include <hls_stream.h>\ntypedef hls::stream<int> Ints;\n"
        "static void add(Ints& x, const int& n, Ints& y) { y.write(x.read() + n); }\n"
        "static void take(Ints& x, int& n) { n = x.read(); }\n"
        "void late(Ints& x_in, Ints& n_in, Ints& y_out) {\n#pragma HLS DATAFLOW\n  int n;\n"
        "  add(x_in, n, y_out);\n  take(n_in, n);\n}\n"
    )
    with pytest.raises(HlsError) as raised:
        build_rtl(find_kernel(source).kernel)
    assert str(raised.value) == (
        f"{source}:7:7: add reads n and is called before take, which writes it; call it after"
    )
