# SPDX-License-Identifier: Apache-2.0
"""What is supported, row by row of the page on the HLS flow: a kernel that is exact, or refused as said."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlOptions
from e2hls.native import build_native
from e2hls.pipeline import generate, lower
from e2hls.simulation.harness import build_simulation, from_words, random_words, to_words

PAGE = Path(__file__).parents[2] / "docs" / "hls.md"
CALLS = 25
HEAD = """\
#include <ap_axi_sdata.h>
#include <ap_fixed.h>
#include <ap_int.h>
#include <hls_np_channel.h>
#include <hls_stream.h>
#include <hls_vector.h>
#include <complex>
using In = hls::stream<ap_int<16>>;
using Out = hls::stream<ap_int<40>>;
"""
# By row: functions before the kernel, and its body, which reads x and writes y.
TAKEN = {
    "`ap_int`, `ap_uint`": (
        "",
        """
  const ap_int<16> a = x.read();
  ap_uint<9> b = a;
  b(6, 2) = a(15, 11);
  b[8] = a[3] ^ b[1];
  y.write((ap_int<7>(a), b) * 3 - (a >> 2) + (~b & 0x55));
  y.write(b.or_reduce() + a.and_reduce() - ap_uint<4>(a).xor_reduce());
""",
    ),
    "`ap_fixed`, `ap_ufixed`": (
        """
template <ap_q_mode kRound, ap_o_mode kFit>
static ap_int<12> fit(ap_fixed<16, 7> v) {
  return ap_fixed<9, 4, kRound, kFit>(v * ap_fixed<6, 1>(0.71875)).range();
}
""",
        """
  ap_fixed<16, 7> v;
  v.range() = x.read();
  y.write((fit<AP_RND, AP_SAT>(v), fit<AP_RND_ZERO, AP_SAT_ZERO>(v), fit<AP_RND_MIN_INF, AP_SAT_SYM>(v)));
  y.write((fit<AP_RND_INF, AP_WRAP>(v), fit<AP_RND_CONV, AP_SAT>(v), fit<AP_TRN_ZERO, AP_SAT>(v)));
  y.write(ap_ufixed<8, 3, AP_RND, AP_SAT>(v + v / 3).range());
""",
    ),
    "`hls::vector`": (
        "",
        """
  hls::vector<int, 4> v = int(x.read());
  v[1] = 3;
  v = v * 5 + v - 7;
  y.write(v.reduce_add());
""",
    ),
    "`hls::axis`, `ap_axiu`, `ap_axis`": (
        "using Beat = ap_axiu<16, 2, 3, 0>;\n"
        "static void pack(In& x, hls::stream<Beat>& beats) {\n"
        "  Beat beat{};\n  beat.data = x.read();\n  beat.last = beat.data[0];\n"
        "  beat.user = beat.data(3, 2);\n"
        "  beats.write(beat);\n}\n"
        "static void unpack(hls::stream<Beat>& beats, Out& y) {\n"
        "  const Beat beat = beats.read();\n  y.write((beat.user, beat.last, beat.data));\n}\n",
        "#pragma HLS DATAFLOW\n  hls::stream<Beat> beats;\n  pack(x, beats);\n  unpack(beats, y);\n",
    ),
    "`hls::stream`": (
        "struct Pair {\n  std::complex<int> at;\n  short of[3];\n};\n",
        """
  hls::stream<ap_fixed<20, 9>, 4> several[3];
  hls::stream<Pair> pairs;
  ap_int<16> word;
  while (!x.read_nb(word)) {
  }
  for (int i = 0; i < 3; ++i) several[i].write(ap_fixed<20, 9>(word) / (i + 1));
  Pair pair{{int(word), int(-word)}, {1, 2, short(word)}};
  pairs.write(pair);
  const int at = ap_uint<8>(word) % 3;
  ap_fixed<20, 9> got = several[at].read();
  for (int i = 0; i < 3; ++i) {
    if (i != at) got += several[i].read();
  }
  const Pair back = pairs.read();
  while (y.full()) {
  }
  y.write_nb(got.range());
  y.write(back.at.imag() + back.of[ap_uint<8>(word) % 3]);
""",
    ),
    "`hls::split::round_robin`, `hls::merge::round_robin`": (
        "static void deal(In& x, hls::stream<int>& to) { for (int i = 0; i < 2; ++i) to.write(x.read()); }\n"
        "static void half(hls::stream<int>& from, hls::stream<int>& to) { to.write(from.read() * 3); }\n"
        "static void give(hls::stream<int>& from, Out& y) {\n"
        "  for (int i = 0; i < 2; ++i) y.write(from.read());\n}\n",
        "#pragma HLS DATAFLOW\n  hls::split::round_robin<int, 2> dealt;\n"
        "  hls::merge::round_robin<int, 2> joined;\n  deal(x, dealt.in);\n"
        "  half(dealt.out[0], joined.in[0]);\n  half(dealt.out[1], joined.in[1]);\n  give(joined.out, y);\n",
    ),
    "arrays between processes": (
        "static void count(In& x, int found[8]) {\n  for (int i = 0; i < 8; ++i) found[i] = i;\n"
        "  for (int i = 0; i < 3; ++i) found[(x.read() >> i) & 7] += i;\n}\n"
        "static void sum(const int found[8], Out& y) {\n  int total = 0;\n"
        "  for (int i = 0; i < 8; ++i) total += found[i] * i;\n  y.write(total);\n}\n",
        "#pragma HLS DATAFLOW\n  int found[8];\n  count(x, found);\n  sum(found, y);\n",
    ),
    "two accesses to an array per iteration": (
        "",
        """
  static ap_int<16> held[32];
  const ap_int<16> word = x.read();
  for (int i = 0; i < 32; i += 2) {
#pragma HLS PIPELINE II=1
    held[i] = word + i;
    held[i + 1] = word ^ i;
  }
  for (int i = 0; i < 31; ++i) {
#pragma HLS PIPELINE II=1
    y.write(held[i] - held[i + 1]);
  }
""",
    ),
    "structs with arrays, by value": (
        "struct Four {\n  short of[4];\n};\n"
        "static Four turned(Four f, int by) {\n  Four g;\n"
        "  for (int i = 0; i < 4; ++i) g.of[(i + by) & 3] = f.of[i];\n  return g;\n}\n",
        "  const short w = x.read();\n  Four f = {{w, 2, 3, 4}};\n"
        "  f = turned(f, w & 3);\n  y.write(f.of[1]);\n",
    ),
    "division": (
        "",
        "  const ap_int<16> a = x.read();\n  y.write(a / 7 + a % ap_int<9>(a | 1));\n",
    ),
}
PER_CALL = {"`hls::split::round_robin`, `hls::merge::round_robin`": 2, "arrays between processes": 3}  # words
# By row: bodies, or headers, that are refused.
REFUSED = {
    "three accesses to an array per iteration": (
        "  static ap_int<16> held[32];\n  for (int i = 0; i < 30; ++i) held[i] = x.read();\n"
        "  for (int i = 0; i < 30; ++i) {\n#pragma HLS PIPELINE II=1\n"
        "    y.write(held[i] + held[i + 1] + held[i + 2]);\n  }\n",
    ),
    "`float`, `double`": ("  y.write(int(x.read() * 0.3f));\n",),
    "`hls::task`, `hls::stream_of_blocks`, `hls::burst_maxi`, `hls::directio`": ("#include <hls_task.h>\n",),
    "`m_axi`, `s_axilite`, `ap_memory` ports": (
        "#pragma HLS INTERFACE s_axilite port=return\n  y.write(x.read());\n",
    ),
    "`ap_fixed` with `AP_WRAP_SM`, or with saturated bits": (
        "  y.write(ap_fixed<9, 4, AP_RND, AP_WRAP_SM>(ap_fixed<16, 9>(x.read())).range());\n",
        "  y.write(ap_fixed<9, 4, AP_RND, AP_WRAP, 2>(ap_fixed<16, 9>(x.read())).range());\n",
    ),
    "`hls::split::load_balance`, `hls::merge::load_balance`": (
        "  hls::split::load_balance<int, 2> dealt;\n",
    ),
}


def rows() -> dict[str, str]:
    """What the table says, by its first column."""
    table = PAGE.read_text().partition("## What is supported")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+) \|$", table, re.M)
    return {name: text for name, text in found if name != "---"}


def test_each_row_has_its_kernels() -> None:
    assert sorted(rows()) == sorted([*TAKEN, *REFUSED])
    assert [name for name, text in rows().items() if "refused" in text] == [*REFUSED]


@pytest.mark.slow
def test_what_is_supported_is_exact(tmp_path: Path) -> None:
    text, calls, ports = HEAD, "", []
    for at, (before, body) in enumerate(TAKEN.values()):
        text += f"{before}static void row{at}(In& x, Out& y) {{\n{body}}}\n"
        calls += f"  row{at}(x{at}_in, y{at}_out);\n"
        ports += [f"In& x{at}_in", f"Out& y{at}_out"]
    source = tmp_path / "rows.cpp"
    source.write_text(f"{text}void rows({', '.join(ports)}) {{\n#pragma HLS DATAFLOW\n{calls}}}\n")
    kernel = Kernel("rows", source)
    design = generate(lower(kernel), RtlOptions(), tmp_path / "rtl")
    of = {port.name: port for port in design.report.ports}
    rng = random.Random(5)
    words = {
        f"x{at}_in": random_words(rng, CALLS * PER_CALL.get(name, 1), 16) for at, name in enumerate(TAKEN)
    }
    native = build_native(kernel).run({name: to_words(given, of[name]) for name, given in words.items()})
    want = {name: from_words(found, of[name]) for name, found in native.items()}
    counts = {name: len(found) for name, found in want.items()}
    got, _ = build_simulation(design, tmp_path / "sim").run(words, counts, seed=1, idle=0.3, stall=0.3)
    names = list(TAKEN)
    wrong = [names[int(re.findall(r"\d+", name)[0])] for name, found in want.items() if got[name] != found]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_in_these_words(name: str, tmp_path: Path) -> None:
    for body in REFUSED[name]:
        source = tmp_path / "k.cpp"
        above = body if body.startswith("#include") else ""
        source.write_text(f"{above}{HEAD}void k(In& x, Out& y) {{\n{body if not above else ''}}}\n")
        with pytest.raises(HlsError) as caught:
            generate(lower(Kernel("k", source)), RtlOptions(), tmp_path / "rtl")
        quoted = re.findall(r"refused: `([^`]+)`", rows()[name])
        assert any(line in caught.value.message for line in quoted), caught.value.message
