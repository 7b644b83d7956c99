# SPDX-License-Identifier: Apache-2.0
"""``e2train hls check`` on kernels as others write them, and a user's own bench on one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from e2hls import HlsError, Kernel, SimulationError, Words, build_rtl, check, simulate
from e2hls.simulation import build_simulation
from e2train.cli.app import app
from typer.testing import CliRunner

pytest_plugins = ["e2hls.checking.pytest_plugin"]

# An array, a pointer of known depth, a reference, a scalar and a result; a table indexed by data; -I and -D.
MIXED = """\
#include "mixed.hpp"
static int clip(int x) { return x > 999 ? 999 : x; }

int mixed(const data_t in[ROWS][2], int *out, ap_uint<9>& last, unsigned char at) {
#pragma HLS INTERFACE m_axi port=out depth=ROWS bundle=gmem
#pragma HLS INTERFACE s_axilite port=at
#pragma HLS INTERFACE s_axilite port=return
#pragma HLS ARRAY_PARTITION variable=in dim=2
  int sum = 0;
rows:
  for (int i = 0; i < ROWS; ++i) {
#pragma HLS PIPELINE
    out[i] = clip(in[i][0] * in[i][1]) + last;
    sum += in[i][0];
  }
  last = sum;
  return sum * kTable[at];
}
"""
HEADER = """\
#include <ap_int.h>
#ifndef ROWS
#error no ROWS
#endif
typedef short data_t;
const int kTable[5] = {3, 1, 4, 1, 5};
"""
# Its RTL is another one than its native build.
TWO_FACED = """\
#include <fstream>
#include <hls_stream.h>
void two_faced(hls::stream<unsigned char>& x_in, hls::stream<unsigned char>& y_out) {
#pragma HLS LATENCY max=3
  const unsigned char x = x_in.read();
#ifdef __SYNTHESIS__
  y_out.write(x == 77 ? 78 : x);
#else
  std::ofstream("trace.txt") << int(x);
  y_out.write(x);
#endif
}
"""
# The second process reads last what the first one writes first.
SHALLOW = """\
#include <hls_stream.h>
typedef hls::stream<int> Ints;
static void split(Ints& x_in, Ints& a, Ints& b) {
  for (int i = 0; i < 16; ++i) {
    const int x = x_in.read();
    a.write(x);
    if (i == 15) b.write(x);
  }
}
static void join(Ints& a, Ints& b, Ints& y_out) {
  const int last = b.read();
  for (int i = 0; i < 16; ++i) y_out.write(a.read() + last);
}
void shallow(Ints& x_in, Ints& y_out) {
#pragma HLS DATAFLOW
  Ints a, b;
#pragma HLS STREAM variable=a depth=DEPTH
  split(x_in, a, b);
  join(a, b, y_out);
}
"""
BENCH = """\
import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

@cocotb.test()
async def the_first_word_comes_through(dut):
    dut.rst_n.value = 0
    dut.x_in_tvalid.value = 0
    dut.y_out_tready.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst_n.value = 1
    dut.x_in_tdata.value = 5
    dut.x_in_tvalid.value = 1
    while not (dut.y_out_tvalid.value == 1):
        await RisingEdge(dut.clk)
    assert dut.y_out_tdata.value == 5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "headers").mkdir()
    (folder / "headers" / "mixed.hpp").write_text(HEADER)
    (folder / "any name.cpp").write_text(MIXED)
    (folder / "two_faced.cpp").write_text(TWO_FACED)
    (folder / "two_faced_bench.py").write_text(BENCH)
    return folder


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_a_function_with_arrays_and_scalars_is_exact(folder: Path) -> None:
    code, out = run(
        *("hls", "check", folder / "any name.cpp", "--top", "mixed", "-I", folder / "headers"),
        *("-D", "ROWS=6", "--clock-ns", "8", "--no-cells", "--json"),
    )
    found = json.loads(out)
    assert (code, found["kernel"], found["exact"]) == (0, "mixed_wrapper", True)
    calls = found["calls"]
    assert found["words"] == {
        "in_in": 12 * calls,
        "out_in": 6 * calls,
        "last_in": calls,
        "at_in": calls,
        "out_out": 6 * calls,
        "last_out": calls,
        "return_out": calls,
    }
    assert found["note"] == (
        "the interface itself is not checked: in (array), out (m_axi), last (scalar), at (s_axilite), "
        "the result of mixed go through streams"
    )
    (process,) = found["schedule"]["processes"]
    assert {each["name"]: each["ii"] for each in process["regions"] if each["name"] == "rows"} == {"rows": 1}
    assert found["report"] is None
    # A table of five elements allows no larger ones, and the native build says so.
    assert found["limits"] == "scalars below 4"
    assert "an array of type const int[5] is accessed" in found["refused"]
    assert [(each["idle"], each["stall"]) for each in found["runs"]] == [
        (0, 0),
        (0, 0.6),
        (0.6, 0),
        (0.5, 0.5),
    ]


def test_a_deadlock_names_the_stream_and_the_processes(tmp_path: Path) -> None:
    source = tmp_path / "shallow.cpp"
    source.write_text(SHALLOW)
    report = check(source, defines=["DEPTH=4"], inputs={"x_in": range(32)})
    assert report.lines == (
        "the RTL deadlocks after 5 cycles with 6 of 32 words of x_in, 0 of 32 words of y_out; "
        "stream a (depth 4) is full and split waits to write it; "
        "stream b is empty and join waits to read it; "
        "natively a stream has no limit: give a a larger depth (#pragma HLS STREAM variable=... depth=N), "
        "or read it earlier (idle 0, stall 0, --seed 1 repeats it)",
        "1 of 1 runs failed",
    )
    assert report.verdict == "no word differs, but the RTL does not come to its end"


@pytest.mark.slow
def test_a_deeper_stream_ends_the_deadlock(tmp_path: Path) -> None:
    source = tmp_path / "shallow.cpp"
    source.write_text(SHALLOW)
    assert check(source, defines=["DEPTH=16"]).exact


def test_intervals_that_cannot_be_had_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "pairs.cpp"
    source.write_text(
        "void pairs(const int x[8], int y[4]) {\n  for (int i = 0; i < 4; ++i) {\n"
        "#pragma HLS PIPELINE II=1 rewind\n    y[i] = x[i] + x[i + 1] + x[i + 2];\n  }\n}\n"
    )
    report = check(source)
    assert report.exact, report.lines
    assert report.note.endswith(
        "; II= of PIPELINE is left out, and loops run at the interval that they can, since "
        f"{source}:4:30: three accesses to array x in one iteration (lines 4), but each of its memories has "
        "two ports; use ARRAY_PARTITION, or access it twice per iteration, or ask for "
        "`#pragma HLS PIPELINE II=3` in loop@2"
    )


def test_a_kernel_of_two_sources(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "helper.hpp").write_text("int helper(int x);\n")
    (tmp_path / "parts" / "helper.cpp").write_text(
        '#include "helper.hpp"\nint helper(int x) { return 3 * x; }\n'
    )
    source = tmp_path / "top.cpp"
    source.write_text('#include "helper.hpp"\nint top(int x) { return helper(x) - 1; }\n')
    report = check(source, others=[tmp_path / "parts" / "helper.cpp"], inputs={"x_in": [5, 7]})
    assert (report.kernel, report.exact, report.words["return_out"]) == ("top_wrapper", True, 2)
    with pytest.raises(HlsError, match=r"^there is no file .*/none.cpp$"):
        check(source, others=[tmp_path / "none.cpp"])


@pytest.mark.parametrize(
    ("parameters", "body", "message"),
    [
        (
            *("", "(void)x.read();"),
            "mute has no output, so there is nothing to compare; write what it computes to a stream",
        ),
        (
            *(", hls::stream<int>& y", "if (x.read() == 5) y.write(5);"),
            "mute: no word came out in 2 calls, so there is nothing to compare; give words by --input with "
            "which one does",
        ),
    ],
    ids=["no output", "no word"],
)
def test_a_kernel_that_gives_nothing_is_refused(
    parameters: str, body: str, message: str, tmp_path: Path
) -> None:
    source = tmp_path / "mute.cpp"
    source.write_text(f"#include <hls_stream.h>\nvoid mute(hls::stream<int>& x{parameters}) {{ {body} }}\n")
    with pytest.raises(HlsError) as raised:
        check(source, inputs={"x": [3, 4]})
    assert str(raised.value) == message


def test_words_without_variety_are_noted(tmp_path: Path) -> None:
    source = tmp_path / "same.cpp"
    source.write_text(
        "#include <hls_stream.h>\nvoid same(hls::stream<int>& x, hls::stream<int>& y) {\n"
        "  static const int table[1] = {5};\n  y.write(table[x.read()]);\n}\n"
    )
    code, out = run("hls", "check", source, "--no-cells")
    lines = out.splitlines()
    assert lines[-3].startswith(f"random words below 2: with others {source}:4: same: element ")
    assert lines[-2:] == [
        "all 400 words of y are 0x5, as random words are limited: give words of your own by --input",
        "exact: RTL and native build give the same words",
    ]
    assert code == 0


def test_a_kernel_that_wants_more_words_is_named(folder: Path) -> None:
    simulation = build_simulation(build_rtl(Kernel("two_faced", folder / "two_faced.cpp")))
    with pytest.raises(SimulationError) as raised:
        simulation.run({"x_in": [5]}, {"y_out": 2})
    assert str(raised.value) == (
        "the RTL deadlocks after 2 cycles with 1 of 2 words of y_out; "
        "stream x_in is empty and two_faced waits to read it"
    )


def test_a_difference_is_told_and_fails(folder: Path) -> None:
    np.save(folder / "x.npy", np.array([5, 77, 3], np.uint8))
    source = folder / "two_faced.cpp"
    code, out = run(
        "hls", "check", source, "--input", f"x_in={folder / 'x.npy'}", "--seed", "9", "--no-cells"
    )
    assert code == 1
    assert out.splitlines()[-4:] == [
        f"note: {source}:4:1: pragma HLS LATENCY is a hint and changes nothing here",
        "word 1 of y_out: native 0x4d, RTL 0x4e (idle 0, stall 0, --seed 9 repeats it)",
        "4 of 4 runs failed",
        "RTL and native build differ",
    ]


def test_words_that_the_source_leaves_undefined_are_not_compared(tmp_path: Path) -> None:
    source = tmp_path / "pack.cpp"
    source.write_text(
        "#include <ap_int.h>\n#include <hls_stream.h>\n"
        "void pack(hls::stream<ap_uint<8>>& x_in, hls::stream<ap_uint<16>>& y_out) {\n"
        "  ap_uint<16> both;\n"
        "  both(7, 0) = x_in.read();\n"
        "  if (both[0]) both(15, 8) = x_in.read();\n"
        "#ifndef __SYNTHESIS__\n"
        "  else both ^= 0x100;\n"  # what is undefined may be anything
        "#endif\n"
        "  y_out.write(both);\n"
        "}\n"
    )
    np.save(tmp_path / "x.npy", np.array([3, 4, 2, 5, 6, 8]))
    code, out = run("hls", "check", source, "--no-cells", "--input", f"x_in={tmp_path / 'x.npy'}")
    assert out.splitlines()[-2:] == [
        "2 words of y_out are not compared: natively they depend on variables that are read, or arrays that "
        "are sent out, before they are written",
        "exact: RTL and native build give the same words",
    ]
    assert code == 0


def test_the_fixture_fails_a_test(folder: Path, hls_check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    before = {*folder.iterdir()}
    assert hls_check(folder / "two_faced.cpp", inputs={"x_in": [5, 3]}).exact
    with pytest.raises(
        pytest.fail.Exception, match=r"RTL and native build differ\nword 0 of y_out: native 0x4d"
    ):
        hls_check(folder / "two_faced.cpp", inputs={"x_in": [77]})
    assert {*folder.iterdir()} == before  # what the native build writes is no concern of the user's


def test_inputs_must_be_whole_calls(tmp_path: Path) -> None:
    source = tmp_path / "pairs.cpp"
    source.write_text(
        "#include <hls_stream.h>\n"
        "using Ints = hls::stream<int>;\n"
        "void pairs(Ints& x_in, Ints& y_out) { y_out.write(x_in.read() + x_in.read()); }\n"
    )
    with pytest.raises(HlsError) as raised:
        check(source, inputs={"x_in": [1, 2, 3]})
    assert str(raised.value) == (
        "x_in was given 3 words, but the calls that use them up take 4; give as many as whole calls take"
    )


def test_simulate_takes_and_gives_words(folder: Path) -> None:
    design = build_rtl(Kernel("two_faced", folder / "two_faced.cpp"))
    given = Words(data=np.array([[5], [77]], np.uint64), last=np.zeros(2, np.bool_))
    outputs, cycles = simulate(design, {"x_in": given}, {"y_out": 2}, stall=0.5)
    assert outputs["y_out"].data.tolist() == [[5], [78]]
    assert cycles > 2


def test_a_bench_of_ones_own(folder: Path, tmp_path: Path) -> None:
    code, out = run("verify", folder / "two_faced_bench.py", "--json", "--out", tmp_path)
    (row,) = (json.loads(line) for line in out.splitlines())
    assert (code, row["kernel"], row["test"], row["passed"]) == (
        *(0, "two_faced", "the_first_word_comes_through", True),
    )
