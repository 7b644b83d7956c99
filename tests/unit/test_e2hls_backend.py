# SPDX-License-Identifier: Apache-2.0
"""The back end on designs written by hand: what it makes and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from checked_flow import lower
from designs import accumulate, buffered, ins, pingpong
from e2hls.backend.codegen import ThroughputError
from e2hls.backend.diagnostics import blame
from e2hls.backend.emit import ProcessEmitter
from e2hls.base.errors import HlsError, Loc
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlDesign, RtlOptions
from e2hls.ir import Const, LoopInfo, Process, Ref
from e2hls.pipeline import generate


def test_one_narrow_multiplier(tmp_path: Path) -> None:
    design = generate(accumulate(), RtlOptions(), tmp_path)
    assert design.report.multipliers == 1
    assert "smul32b_16b_x_16b" in (tmp_path / "v" / "squares_core.v").read_text()
    assert [region.name for region in design.report.processes[0].regions] == ["entry", "words"]
    assert {path.stem for path in design.sv_files} == {path.stem for path in design.verilog_files}


def test_the_report_survives_the_disk(tmp_path: Path) -> None:
    design = generate(buffered(), RtlOptions(), tmp_path)
    assert design == type(design).load("reverse", tmp_path)
    assert design.report.rams == (("buf", 8, 16),)


def test_a_shared_array_has_both_halves(tmp_path: Path) -> None:
    assert generate(pingpong(), RtlOptions(), tmp_path).report.rams == (("buf", 16, 16),)


AGAIN = ins("load", 16, "again", Ref(4, "drain.i"), target="buf", loc=Loc("k.cpp", 10))


def test_two_reads_of_one_memory_take_both_ports(tmp_path: Path) -> None:
    one, two = (
        generate(buffered(extra=extra), RtlOptions(), tmp_path / str(len(extra))) for extra in ((), (AGAIN,))
    )
    assert [process.ii for process in two.report.processes] == [1]
    found = [{path.stem for path in design.verilog_files} for design in (one, two)]
    assert found[1] - found[0] == {"e2hls_ram_dual"}


def test_two_reads_of_what_another_process_writes_are_refused(tmp_path: Path) -> None:
    design = pingpong()
    load, store = design.processes
    blocks = [
        replace(block, instrs=(block.instrs[0], AGAIN, *block.instrs[1:]))
        if block.label == "drain"
        else block
        for block in store.blocks
    ]
    store = replace(store, blocks=tuple(blocks))
    with pytest.raises(HlsError) as caught:
        generate(replace(design, processes=(load, store)), RtlOptions(), tmp_path)
    assert str(caught.value) == (
        "k.cpp:9:0: two reads of array buf in one iteration (lines 9 and 10), but each of its memories has "
        "one read port; use ARRAY_PARTITION, or read it once per iteration, or ask for "
        "`#pragma HLS PIPELINE II=2` in drain"
    )


def test_what_is_written_from_what_was_read_is_forwarded(tmp_path: Path) -> None:
    modify = (
        ins("add", 16, "more", Ref(16, "read"), Const(16, 1)),
        ins("store", 0, "", Ref(4, "at"), Ref(16, "more"), target="buf"),
    )
    design = generate(buffered(extra=modify), RtlOptions(), tmp_path)
    assert [process.ii for process in design.report.processes] == [1]
    assert "buf_recent0_data" in (tmp_path / "v" / "reverse_core.v").read_text()


def test_the_last_writes_are_forwarded_without_doing_so_elsewhere(tmp_path: Path) -> None:
    generate(buffered(), RtlOptions(), tmp_path)
    assert "recent" not in (tmp_path / "v" / "reverse_core.v").read_text()


LOOP = """\
#include <ap_int.h>
#include <hls_stream.h>
extern "C" void k(hls::stream<ap_uint<4>>& x_in, hls::stream<ap_uint<32>>& y_out) {
  static ap_uint<%(bits)d> a[16], b[16];
words:
  for (int i = 0; i < 64; ++i) {
    #pragma HLS PIPELINE II=%(ii)d
    const ap_uint<4> x = x_in.read();
    %(body)s
  }
}
"""
LINKS = "const ap_uint<4> v = a[x], w = b[v]; a[x] = w + 1; b[x] = v + i; y_out.write(v + w);"
POWERS = "ap_uint<32> v = a[x] + x;" + 8 * " v = v * v + i;" + " y_out.write(v); a[x] = v; b[x] = v;"


def built(tmp_path: Path, body: str, *, ii: int, bits: int = 4, period_ns: float = 10.0) -> RtlDesign:
    source = tmp_path / "k.cpp"
    source.write_text(LOOP % {"body": body, "ii": ii, "bits": bits})
    return generate(lower(Kernel("k", source)), RtlOptions(period_ns=period_ns), tmp_path / "rtl")


@pytest.mark.parametrize(
    ("body", "bits", "period_ns", "message"),
    [
        (
            LINKS,
            4,
            10.0,
            "6:3: words cannot start an iteration every 1 cycle(s): array a depends on b, which is read at "
            "an address or under a condition that depends on it; ask for `#pragma HLS PIPELINE II=2` "
            "in words",
        ),
        (
            POWERS,
            32,
            3.9,
            "4:1: array a is written with what is computed from its own elements, which takes longer than "
            "1 cycle(s); compute less in one iteration, or ask for `#pragma HLS PIPELINE II=2` in words",
        ),
    ],
    ids=["links", "powers"],
)
def test_the_advice_to_go_slower_helps(
    tmp_path: Path, body: str, bits: int, period_ns: float, message: str
) -> None:
    with pytest.raises(HlsError) as caught:
        built(tmp_path, body, ii=1, bits=bits, period_ns=period_ns)
    assert str(caught.value) == f"{tmp_path}/k.cpp:{message}"
    (process,) = built(tmp_path, body, ii=2, bits=bits, period_ns=period_ns).report.processes
    assert process.ii == 2


def test_a_read_under_a_condition_on_the_same_array(tmp_path: Path) -> None:
    late = "ap_uint<4> v = i; if (x & 1) v = a[x]; if (v < 7) a[x] = a[x] + v; y_out.write(v + b[x]);"
    with pytest.raises(HlsError) as caught:
        built(tmp_path, late, ii=1)
    assert str(caught.value) == (
        f"{tmp_path}/k.cpp:4:1: array a is read under a condition or at an address that depends on what the "
        "same iteration may have read from it; read it once, before the condition"
    )
    early = (
        "const ap_uint<4> w = a[x], v = x & 1 ? w : ap_uint<4>(i); if (v < 7) a[x] = w + v; "
        "y_out.write(v + b[x]);"
    )
    built(tmp_path, early, ii=1)


def test_a_wide_division_is_pipelined(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <ap_int.h>\n#include <hls_stream.h>\nusing Stream = hls::stream<ap_uint<64>>;\n"
        'extern "C" void k(Stream& x_in, Stream& y_out) {\n'
        "  const ap_uint<64> x = x_in.read();\n  y_out.write(~x / (x | 1) + 1000 / (x | 1));\n}\n"
    )
    (process,) = generate(lower(Kernel("k", source)), RtlOptions(), tmp_path / "rtl").report.processes
    assert process.ii == 1
    assert process.pipeline_stages > 16
    assert process.period_ps == 2150  # as asked for


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "    const int x = x_in.read();\n    y_out.write(x_in.empty() ? x : -x);\n",
            "7:22: x_in.empty() stands behind an access in one iteration; put it first, or ask for "
            "`#pragma HLS PIPELINE II=2` in words",
        ),
        (
            "    y_out.write(x_in.empty());\n",
            "6:22: x_in.empty() is called in a process that does not access it",
        ),
    ],
)
def test_a_stream_is_asked_for_words_before_it_is_read(tmp_path: Path, body: str, message: str) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <hls_stream.h>\n"
        'extern "C" void k(hls::stream<int>& x_in, hls::stream<int>& y_out) {\n'
        "words:\n  for (int i = 0; i < 64; ++i) {\n    #pragma HLS PIPELINE II=1\n" + body + "  }\n}\n"
    )
    with pytest.raises(HlsError) as caught:
        generate(lower(Kernel("k", source)), RtlOptions(), tmp_path / "rtl")
    assert str(caught.value) == f"{source}:{message}"


def test_loops_that_ask_for_nothing_take_what_they_need(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <hls_stream.h>\n"
        'extern "C" void k(hls::stream<unsigned>& x_in, hls::stream<unsigned>& y_out) {\n'
        "  static unsigned a[16];\n  unsigned hash = 1;\n"
        "  for (int i = 0; i < 16; ++i) a[i] = x_in.read();\n"
        "  for (int i = 2; i < 16; ++i) {\n    #pragma HLS PIPELINE\n"
        "    hash = (hash ^ a[i] ^ a[i - 2]) * 2654435761u;\n    hash = (hash ^ hash >> 15) * 11;\n  }\n"
        "  y_out.write(hash);\n}\n"
    )
    (process,) = generate(lower(Kernel("k", source)), RtlOptions(), tmp_path / "rtl").report.processes
    assert process.ii > 1
    assert process.period_ps == 2150  # as asked for
    assert [region.name for region in process.regions] == ["entry", "loop@5", "loop@6", "step"]


def test_banks_have_names_that_no_other_array_has(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    process = (
        "  static int a[8];\n  const int x = in.read();\n  out.write(a[x & 7]);\n  a[x >> 3 & 7] = x;\n}\n"
    )
    source.write_text(
        "#include <hls_stream.h>\n"
        "static void p(hls::stream<int>& in, hls::stream<int>& out) {\n"
        + process.replace("];\n", "];\n#pragma HLS ARRAY_PARTITION variable=a cyclic factor=2\n", 1)
        + "static void q(hls::stream<int>& in, hls::stream<int>& out) {\n"
        + process
        + 'extern "C" void k(hls::stream<int>& x_in, hls::stream<int>& y_out) {\n'
        + "  #pragma HLS DATAFLOW\n  hls::stream<int> middle;\n  p(x_in, middle);\n  q(middle, y_out);\n}\n"
    )
    design = generate(lower(Kernel("k", source)), RtlOptions(), tmp_path)
    assert design.report.rams == (("a__0", 4, 32), ("a__1", 4, 32), ("a_1", 8, 32))


def test_a_word_is_on_its_way_before_the_process_that_wrote_it_waits_for_it(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <hls_stream.h>\n"
        'extern "C" void k(hls::stream<int>& x_in, hls::stream<int>& y_out) {\n'
        "  hls::stream<int> own;\n  own.write(x_in.read() / 3);\n  y_out.write(own.read());\n}\n"
    )
    design = lower(Kernel("k", source))
    streams = {each.name: each for each in (*design.inputs, *design.outputs, *design.streams)}
    emitter = ProcessEmitter("k_core", design.processes[0], streams, merge=True, forwarded={})
    emitter.run()
    assert emitter.memories.constraints == [
        "own:send:own_kept:recv:1:none",
        "x_in:recv:own:send:0:none",
        "x_in:recv:y_out:send:0:none",
        "own_kept:recv:y_out:send:0:none",
    ]


def test_a_word_does_not_overtake_a_read_but_a_question_goes_before_its_answer(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <hls_stream.h>\n"
        'extern "C" void k(hls::stream<int>& x_in, hls::stream<int>& answer_in,\n'
        "    hls::stream<int>& ask_out, hls::stream<int>& y_out) {\n"
        "  x_in.read();\n  for (int i = 0; i < 4; ++i) y_out.write(i);\n"
        "  ask_out.write(7);\n  answer_in.read();\n}\n"
    )
    design = lower(Kernel("k", source))
    streams = {each.name: each for each in (*design.inputs, *design.outputs, *design.streams)}
    emitter = ProcessEmitter("k_core", design.processes[0], streams, merge=False, forwarded={})
    emitter.run()
    # The last iteration of the loop goes on to ask and to wait for the answer.
    assert emitter.memories.constraints == ["x_in:recv:y_out:send:0:none", "x_in:recv:ask_out:send:0:none"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "INVALID_ARGUMENT: top_k: cannot achieve full throughput. Try `--worst_case_throughput=2`",
            "k.cpp:7:3: rows cannot start an iteration every 1 cycle(s): what one hands to the next, in "
            "variables or arrays, takes longer to compute",
        ),
        (
            "INTERNAL: top_k: the solver gave up",
            "k.cpp:4:1: process k cannot be scheduled at II=1: the solver gave up",
        ),
    ],
)
def test_what_the_scheduler_says_is_put_into_words(said: str, message: str) -> None:
    loops = {
        "a": LoopInfo(name="fill", ii=0, loc=Loc("k.cpp", 4, 1)),
        "b": LoopInfo(name="rows", ii=1, loc=Loc("k.cpp", 7, 3)),
    }
    process = Process(name="k", blocks=(), arrays=(), loops=loops)
    emitter = cast(
        ProcessEmitter,
        SimpleNamespace(
            text=SimpleNamespace(late_states=lambda: ()), memories=SimpleNamespace(forwarded=(), rams=())
        ),
    )
    assert str(blame(process, emitter, 1, ThroughputError(said))) == message
