# SPDX-License-Identifier: Apache-2.0
"""What the front end makes of small kernels: ports, processes, loops, arrays; and its pragmas."""

from collections.abc import Callable
from pathlib import Path

import pytest
from checked_flow import lower
from e2hls.base.kernel import Kernel
from e2hls.ir import Array, Design, Process

OWN = Path(__file__).parent / "kernels"
KERNELS = Path(__file__).parents[1] / "rtl" / "kernels"
HEAD = "#include <ap_int.h>\n#include <hls_stream.h>\nusing In = hls::stream<ap_int<16>>;\n"

Lower = Callable[..., Design]


@pytest.fixture
def lowered(tmp_path: Path) -> Lower:
    """The design of a kernel ``k`` with this body between ``x_in`` and ``y_out``."""

    def run(body: str, before: str = "") -> Design:
        source = tmp_path / "k.cpp"
        source.write_text(f'{HEAD}{before}extern "C" void k(In& x_in, In& y_out) {{\n{body}\n}}\n')
        return lower(Kernel("k", source))

    return run


def example(name: str) -> Design:
    return lower(Kernel(name, KERNELS / f"{name}.cpp"))


def ops(process: Process, op: str) -> int:
    return sum(instr.op == op for block in process.blocks for instr in block.instrs)


def loop_names(process: Process) -> list[str]:
    return sorted(info.name for info in process.loops.values())


def array(design: Design, name: str) -> Array:
    arrays = [*design.shared, *(each for process in design.processes for each in process.arrays)]
    return next(each for each in arrays if each.name == name)


def test_axi_ports_carry_tlast_in_the_top_bit() -> None:
    design = example("vadd")
    assert [(port.name, port.width, port.axis) for port in design.inputs] == [
        ("a_in", 41, True),  # its copy leaves with tkeep and tstrb
        ("b_in", 33, True),
    ]
    assert [(port.name, port.width, port.axis) for port in design.outputs] == [("sum_out", 41, True)]
    assert [process.name for process in design.processes] == ["vadd"]


def test_side_channels_have_pins_where_they_are_used() -> None:
    design = example("sides")
    (x_in,), (y_out,), (middle,) = design.inputs, design.outputs, design.streams
    assert (x_in.sides, x_in.data_bits, x_in.width) == ((("keep", 4), ("user", 1)), 32, 38)
    assert (middle.sides, middle.width) == ((("strb", 4),), 37)
    assert (y_out.sides, y_out.data_bits, y_out.width) == ((("keep", 2), ("dest", 70)), 16, 89)


def test_beats_with_whole_words_have_no_side_channels(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <ap_axi_sdata.h>\n#include <hls_stream.h>\nusing Beat = ap_axiu<16, 4, 2, 2>;\n"
        'extern "C" void k(hls::stream<Beat>& x_in, hls::stream<Beat>& y_out) {\n'
        "  const Beat beat = x_in.read();\n  Beat out;\n  out.data = beat.data;\n  out.last = beat.last;\n"
        "  out.keep = -1;\n  out.user = 0;\n  y_out.write(out);\n}\n"
    )
    design = lower(Kernel("k", source))
    assert [(port.width, port.sides) for port in (*design.inputs, *design.outputs)] == [(17, ())] * 2


def test_unrolled_taps_are_eight_multipliers_beside_static_registers() -> None:
    design = example("fir")
    (process,) = design.processes
    assert ops(process, "mul") == 8
    assert loop_names(process) == ["fir"]  # the function itself is pipelined, no loop is left
    delay = array(design, "delay")
    assert (delay.scope, delay.width, delay.dims, delay.partitioned) == ("static", 16, (8,), (True,))
    assert delay.loc is not None
    assert delay.loc.line == 11


def test_loops_keep_their_labels_and_one_multiplier() -> None:
    design = example("matmul")
    (process,) = design.processes
    assert loop_names(process) == ["columns", "load_a", "load_b", "loop@13", "loop@20", "rows", "terms"]
    assert ops(process, "mul") == 1
    assert [(each.name, each.dims, each.scope) for each in process.arrays] == [
        ("a", (8, 8), "local"),
        ("b", (8, 8), "local"),
    ]


def test_a_variable_bank_is_one_store_with_two_indices() -> None:
    design = example("banks")
    store = array(design, "store")
    assert (store.dims, store.partitioned, store.width) == ((4, 16), (True, False), 12)
    (process,) = design.processes
    assert ops(process, "store") == 1
    assert ops(process, "load") == 4


def test_dataflow_functions_are_processes_joined_by_what_they_share() -> None:
    design = example("pingpong")
    assert [process.name for process in design.processes] == ["load", "store"]
    assert [(each.name, each.width, each.depth) for each in design.streams] == [("sums", 96, 4)]
    assert [(each.name, each.scope, each.width) for each in design.shared] == [("buffer", "shared", 24)]
    assert [[array.name for array in process.arrays] for process in design.processes] == [
        ["sums_of"],
        ["sums_of_1"],
    ]


def test_a_loop_that_branches_stays_one_loop(lowered: Lower) -> None:
    body = """
      bool done = false;
      ap_int<16> x = 0, y = 0;
    walk:
      while (!done) {
        #pragma HLS PIPELINE II=3
        const ap_int<16> n = x_in.read();
        if (n == 0) continue;
        if (n < 0) { x = 0; y += 1; } else if (x == 9) { x = 0; } else { x += n; }
        if (y == 7) y_out.write(x * n);
        done = n == 99;
      }"""
    (process,) = lowered(body).processes
    assert [(info.name, info.ii) for info in process.loops.values()] == [("walk", 3)]
    assert ops(process, "mul") == 1


def test_accumulators_across_a_loop_keep_the_width_of_the_source(lowered: Lower) -> None:
    body = """
      ap_int<37> acc[4] = {};
      for (int i = 0; i < 50; ++i) {
        #pragma HLS PIPELINE
        for (int k = 0; k < 4; ++k) acc[k] = ap_int<37>(acc[k] * 3) + x_in.read();
      }
      y_out.write(acc[0] + acc[1] + acc[2] + acc[3]);"""
    (process,) = lowered(body).processes
    widths = sorted(phi.width for block in process.blocks for phi in block.phis)
    assert widths[0] <= 6  # the counter
    assert max(widths) <= 37
    assert not process.arrays


def test_arrays_of_structs_are_arrays_of_their_fields(lowered: Lower) -> None:
    body = """
      struct Pixel { ap_uint<5> red; ap_int<9> blue[2]; };
      static Pixel row[32];
      const ap_int<16> x = x_in.read();
      Pixel pixel;
      pixel.red = x;
      pixel.blue[0] = x + 1;
      pixel.blue[1] = x + 2;
      row[x & 31] = pixel;
      const Pixel other = row[x >> 8 & 31];
      y_out.write(other.red + other.blue[1]);"""
    (process,) = lowered(body).processes
    assert [(each.name, each.width, each.dims, each.partitioned) for each in process.arrays] == [
        ("row_red", 5, (32,), (False,)),
        ("row_blue", 9, (32, 2), (False, True)),
    ]


def test_initial_values_and_constant_tables(lowered: Lower) -> None:
    body = """
      static const short table[4] = {7, -1, 300, 0};
      static ap_uint<5> state = 9;
      state += 1;
      y_out.write(table[x_in.read() & 3] + state);"""
    design = lowered(body)
    assert array(design, "table").init == (7, 0xFFFF, 300, 0)
    assert array(design, "state").init == (9,)
    assert array(design, "state").dims == (1,)


def test_partition_of_a_chosen_dimension(lowered: Lower) -> None:
    body = """
      static ap_int<16> a[2][8][4];
      #pragma HLS ARRAY_PARTITION variable=a dim=3 complete
      const ap_int<16> x = x_in.read();
      a[x & 1][x >> 1 & 7][x >> 4 & 3] = x;
      y_out.write(a[x >> 6 & 1][x >> 7 & 7][2]);"""
    assert array(lowered(body), "a").partitioned == (False, False, True)


def test_no_promise_of_independence_changes_the_design(lowered: Lower) -> None:
    body = """
      static ap_int<16> a[64];
      for (int i = 0; i < 8; ++i) {
        %s
        a[x_in.read() & 63] += i;
      }
      y_out.write(a[0]);"""
    without = lowered(body % "")
    for promise in (
        "variable=a inter false",
        "variable=a intra RAW false",
        "variable=a inter WAR false",
        "variable=a type=inter direction=raw distance=4 dependent=true",
        "variable=a",
        "class=array inter WAW dependent=false",
        "pointer intra true",
    ):
        assert lowered(body % f"#pragma HLS DEPENDENCE {promise}") == without, promise


def test_a_repeated_load_takes_one_port(lowered: Lower) -> None:
    body = """
      static ap_int<16> a[64];
      const ap_int<16> x = x_in.read();
      const int at = x & 63;
      y_out.write(a[at] + a[at]);
      a[at] = x;"""
    (process,) = lowered(body).processes
    assert ops(process, "load") == 1


def test_pragmas_reach_their_loops_without_braces_and_through_macros() -> None:
    (process,) = lower(Kernel("pragmas", OWN / "pragmas.cpp")).processes
    loops = {info.loc.line: (info.name, info.ii) for info in process.loops.values() if info.loc}
    assert loops == {
        12: ("loop@12", 0),
        30: ("words", 1),
        33: ("loop@33", 2),
        43: ("loop@43", 0),
        52: ("loop@52", 0),
        56: ("loop@56", 2),
    }
    assert ops(process, "stream_read") == 2  # one in the loop of two, which is unrolled


def test_several_pragmas_share_a_line_and_one_takes_several(lowered: Lower) -> None:
    body = """
      static ap_int<16> a[2][8], b[2][8], c[2][8];
      _Pragma("HLS ARRAY_PARTITION variable=a") _Pragma("HLS ARRAY_PARTITION dim=2 variable=b")
      #pragma \\
        HLS ARRAY_PARTITION \\
        variable=c
      const ap_int<16> x = x_in.read();
      a[x & 1][x >> 1 & 7] = x;
      b[x & 1][x >> 1 & 7] = c[x & 1][x >> 1 & 7] = x;
      y_out.write(a[1][x >> 7 & 7] + b[x >> 1 & 1][2] + c[0][x >> 2 & 7]);"""
    design = lowered(body)
    assert array(design, "a").partitioned == (True, False)
    assert array(design, "b").partitioned == (False, True)
    assert array(design, "c").partitioned == (True, False)


def test_partition_of_a_parameter_splits_the_array_that_is_passed(lowered: Lower) -> None:
    functions = """
      static ap_int<16> second(ap_int<16> a[4][8], int i, int j) {
        #pragma HLS ARRAY_PARTITION variable=a dim=2
        return a[i][j];
      }
      static ap_int<16> first(ap_int<16> row[8], int j) {
        #pragma HLS ARRAY_PARTITION variable=row
        return row[j];
      }
      template <int kCount>
      ap_int<16> all(const ap_int<16> (&a)[kCount][8], int i, int j) {
        #pragma HLS ARRAY_PARTITION variable=a dim=0
        return a[i][j];
      }
    """
    body = """
      ap_int<16> a[4][8], b[4][8], c[4][8], d[4][8];
      for (int i = 0; i < 32; ++i) {
        #pragma HLS PIPELINE
        a[i >> 3][i & 7] = b[i >> 3][i & 7] = c[i >> 3][i & 7] = d[i >> 3][i & 7] = x_in.read();
      }
      const ap_int<16> x = x_in.read();
      const int i = x & 3, j = x >> 2 & 7;
      y_out.write(second(a, i, j) + first(b[i], j) + all(c, i, j) + first(d[2], j));"""
    design = lowered(body, functions)
    partitioned = {name: array(design, name).partitioned for name in "abcd"}
    assert partitioned == {
        "a": (False, True),
        "b": (False, True),
        "c": (True, True),
        "d": (False, True),
    }


def test_a_pragma_names_several_variables(lowered: Lower) -> None:
    body = """
      static ap_int<16> a[4], b[4];
      #pragma HLS ARRAY_PARTITION variable=a, b complete
      const ap_int<16> x = x_in.read();
      a[x & 3] = b[x >> 2 & 3] = x;
      y_out.write(a[x >> 4 & 3] + b[x >> 6 & 3]);"""
    design = lowered(body)
    assert array(design, "a").partitioned == array(design, "b").partitioned == (True,)


def test_the_depth_of_an_array_of_streams_is_that_of_each(lowered: Lower) -> None:
    functions = """
      using Deep = hls::stream<ap_int<16>, 5>;
      static void send(In& x_in, In& a, In& b, In& c, In& d, Deep& e, Deep& f) {
        const ap_int<16> x = x_in.read();
        a.write(x), b.write(x), c.write(x), d.write(x), e.write(x), f.write(x);
      }
      static ap_int<16> shallow(In& x) {
        #pragma HLS STREAM variable=x depth=3
        return x.read();
      }
      static void receive(In& a, In& b, In& c, In& d, Deep& e, Deep& f, In& y_out) {
        y_out.write(a.read() + b.read() + shallow(c) + d.read() + e.read() + f.read());
      }
    """
    body = """
      #pragma HLS DATAFLOW
      In deep[2], pair[2];
      #pragma HLS STREAM variable=deep depth=7
      Deep typed[2];
      send(x_in, deep[0], deep[1], pair[0], pair[1], typed[0], typed[1]);
      receive(deep[0], deep[1], pair[0], pair[1], typed[0], typed[1], y_out);"""
    streams = lowered(body, functions).streams
    assert [stream.depth for stream in streams] == [7, 7, 3, 2, 5, 5]


def test_arrays_in_a_struct_are_told_apart_by_where_they_start(lowered: Lower) -> None:
    body = """
      static struct { short a[8], b[8]; } s;
      const int at = x_in.read() & 7;
      s.b[at] = s.a[at] + 1;
      y_out.write(s.b[at ^ 1]);"""
    (process,) = lowered(body).processes
    found = [(i.op, i.target) for block in process.blocks for i in block.instrs if i.op in ("load", "store")]
    assert found == [("load", "s_a"), ("store", "s_b"), ("load", "s_b")]


def test_arrays_of_streams_may_be_static(lowered: Lower) -> None:
    design = lowered("static In two[2];\ntwo[0].write(1);\ntwo[1].write(x_in.read());\n"
                     "y_out.write(two[1].read() + two[0].read());")  # fmt: skip
    assert [stream.name for stream in design.streams] == ["two", "two_1", "two_kept", "two_1_kept"]
