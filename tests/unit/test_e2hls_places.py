# SPDX-License-Identifier: Apache-2.0
"""Where addresses lead: indices of several dimensions, fields, pointers that walk or are chosen."""

from __future__ import annotations

import re

import pytest
from checked_flow import lower
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.frontend.llvm_text import parse_module
from e2hls.frontend.walks import Walk, find_walks

HEAD = "#include <ap_int.h>\n#include <hls_stream.h>\nusing T = ap_uint<8>;\nusing Ts = hls::stream<T>;\n"
CHOSEN = "which variable is accessed here is decided at run time; use one array and an index"
WALKS = "a pointer walks over a here, and where it leads is not known; use an index for each dimension"
REFUSED = {
    "rows in one": (
        "  T a[3][4];\n  T* p = a[0];\n  for (int i = 0; i < 12; ++i) p[i] = x.read();\n  y.write(a[1][1]);",
        WALKS,
    ),
    "a stride that is no row": (
        "  T a[3][4];\n  for (T* p = &a[0][0]; p < &a[2][3]; p += 3) *p = x.read();\n  y.write(a[1][1]);",
        WALKS,
    ),
    "rows by a sum": (
        "  T a[3][4];\n  for (auto& row : a) for (auto& v : row) v = x.read();\n  T* p = a[0];\n"
        "  for (int i = 0; i < 3; ++i) for (int j = 0; j < 4; ++j) y.write(p[4 * i + j]);",
        WALKS,
    ),
    "anywhere": (
        "  T a[3][4];\n  for (auto& row : a) for (auto& v : row) v = x.read();\n  T* p = a[1];\n"
        "  y.write(p[int(x.read()) - 4]);",
        WALKS,
    ),
    "a counter of its own kind": (
        "  static T a[3][3];\n  for (auto& r : a) for (auto& v : r) v = x.read();\n  T *p = a[0], n = 0;\n"
        "  for (int i = 1; i < 8; i |= 3) {\n    y.write(p[i]);\n    if (++n == 5) break;\n  }",
        WALKS,
    ),
    "beside a union": (
        "  static struct { unsigned char a[8]; union { unsigned char b[4]; unsigned w; } u; } a;\n"
        "  for (auto& v : a.a) v = x.read();\n  for (int i = 0; i < 4; ++i) a.u.b[i] = x.read();\n"
        "  y.write(a.u.b[x.read() & 3]);",
        "a_a is not accessed by whole elements; access them one by one",
    ),
    "the place before": (
        "  struct N { T v, w; } a[4];\n  for (auto& n : a) { n.v = x.read(); n.w = x.read(); }\n"
        "  N* before = &a[0];\n  for (int i = 0; i < 4; ++i) {\n    N* now = &a[i];\n"
        "    y.write(before->w - now->v);\n    before = now;\n  }",
        CHOSEN,
    ),
    "the best place": (
        "  T a[8], most = 0;\n  for (int i = 0; i < 8; ++i) a[i] = x.read();\n  T *p = a, *q = a;\n"
        "  for (int i = 0; i < 8; ++i, ++q) {\n    const T v = x.read();\n"
        "    if (v > most) { most = v; p = q; }\n  }\n  y.write(*p);",
        CHOSEN,
    ),
    "the greatest": (
        "  T a[8];\n  for (auto& v : a) v = x.read();\n  T* p = &a[0];\n"
        "  for (int i = 1; i < 8; ++i) if (a[i] > *p) p = &a[i];\n  y.write(*p);",
        CHOSEN,
    ),
    "whether its own stream is empty": (
        "  Ts s;\n  for (int i = 0; i < 4; ++i) s.write(x.read());\n  while (!s.empty()) y.write(s.read());",
        "whether s is empty depends on time, as one process writes and reads it; count its words",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=list(REFUSED))
def test_what_leads_nowhere_certain_is_one_line(case, tmp_path):
    body, message = case
    source = tmp_path / "k.cpp"
    source.write_text(f"{HEAD}void k(Ts& x, Ts& y) {{\n{body}\n}}\n")
    with pytest.raises(HlsError) as refused:
        lower(Kernel("k", source))
    assert re.fullmatch(rf"{re.escape(str(source))}:\d+:\d+: {re.escape(message)}", str(refused.value))


def test_a_process_that_another_calls_is_named(tmp_path):
    source = tmp_path / "k.cpp"
    source.write_text(
        HEAD + "void inc(Ts& x, Ts& y) { y.write(x.read() + 1); }\n"
        "void twice(Ts& x, Ts& y) { inc(x, y); inc(x, y); }\n"
        "void k(Ts& x, Ts& y) {\n#pragma HLS DATAFLOW\n  Ts a;\n  inc(x, a);\n  twice(a, y);\n}\n"
    )
    with pytest.raises(HlsError, match=r":6:28: inc is a process of its own and is called by another; give "):
        lower(Kernel("k", source))


@pytest.mark.parametrize(
    ("start", "step", "test", "branch", "walk"),
    [
        (0, 4, "eq i64 %next, 16", "out, label %loop", Walk(0, 12, 4)),
        (0, 4, "ne i64 %next, 16", "loop, label %out", Walk(0, 12, 4)),
        (8, 1, "samesign ult i64 %next, 11", "loop, label %out", Walk(8, 10, 1)),
        (0, 3, "ult i64 %next, 7", "loop, label %out", Walk(0, 6, 3)),
        (0, 3, "slt i64 %i, 7", "loop, label %out", Walk(0, 9, 3)),
        (0, 1, "ult i64 %i, 11", "loop, label %out", Walk(0, 11, 1)),
        (5, 1, "ult i64 %next, 3", "loop, label %out", Walk(5, 5, 1)),
        (7, -1, "eq i64 %i, 0", "out, label %loop", Walk(7, 0, -1)),
        (0, 3, "eq i64 %next, 16", "out, label %loop", None),  # it passes by the limit
        (16, 1, "eq i64 %next, 16", "out, label %loop", None),  # it goes round
        (0, 1, "ult i64 %next, -56", "loop, label %out", None),  # a large number
        (7, -2, "sgt i64 %i, 0", "loop, label %out", Walk(7, -1, -2)),
        (7, -1, "samesign ugt i64 %i, 0", "loop, label %out", Walk(7, 0, -1)),
        (7, -1, "sgt i64 %next, -1", "loop, label %out", Walk(7, 0, -1)),
        (0, 1, "eq i64 %i, 0", "loop, label %out", Walk(0, 1, 1)),
        (0, 1, "eq i64 %next, 16", "loop, label %out", Walk(0, 0, 1)),
        (0, 1, "ult i64 %next, 16", "out, label %loop", None),  # it goes on from there
        (0, 1, "ult i64 %other, 16", "loop, label %out", None),
    ],
)
def test_counters_go_as_far_as_their_loop(start, step, test, branch, walk):
    module = parse_module(
        "define void @k() {\nentry:\n  br label %loop\nloop:\n"
        f"  %i = phi i64 [ {start}, %entry ], [ %next, %loop ]\n  %next = add nuw nsw i64 %i, {step}\n"
        f"  %test = icmp {test}\n  br i1 %test, label %{branch}\nout:\n  ret void\n}}\n"
    )
    assert find_walks(module.functions["k"]).get("%i") == walk
