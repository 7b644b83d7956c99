# SPDX-License-Identifier: Apache-2.0
"""`e2train hls`: one-line errors, JSON rows, and an exit code that tells whether the part is large enough."""

import json
import re
from pathlib import Path

import e2hls
import pytest
from e2hls import report as reporting
from e2hls.base.rtl_design import RtlDesign, RtlReport
from e2hls.pipeline import PASSES
from e2train.cli.app import main
from e2train.cli.kernel_report import part_budget
from e2train.config import load_config


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line as a user does; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["e2train", "hls", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def synthesis(monkeypatch):
    """Stands in for both tools; gives the cells that they shall report."""
    cells = {"dsp": 128, "bram36": 60.5, "lut": 12_000, "ff": 15_000, "multipliers": 128, "other": {}}
    schedule = RtlReport(ports=(), processes=(), rams=())
    path = reporting.StagePath(
        stage="u_load.state",
        estimate_ns=10.5,
        wire_ns=8.4,
        lut_levels=12,
        carry_bits=3,
        dsps=0,
        start="u_load.n1",
        end="u_load.p1_n2",
        start_term="load, loop header: word (load.hpp:84)",
        end_term="load, loop header, stage 1",
    )

    def report(design, budget, *, progress):
        progress("SYNTH_XILINX")
        return reporting.KernelReport(
            kernel=design.name,
            budget=budget,
            schedule=schedule,
            cells=reporting.Cells(**cells),
            paths=(path,),
            looped_cells=0,
        )

    monkeypatch.setattr(
        e2hls,
        "build_rtl",
        lambda kernel, options, watch=None: RtlDesign(
            kernel.name, Path(), (Path("a.sv"),), (Path("a.v"),), schedule
        ),
    )
    monkeypatch.setattr(reporting, "report", report)
    return cells


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--board", "zedboard"],
            "no configuration 'zedboard' in boards.toml; there are: pynq_z2, zcu104, kv260",
        ),
        (["conv"], "no kernel 'conv': give 'engine' or an existing .cpp file"),
        (["none.cpp"], "no kernel 'none.cpp': give 'engine' or an existing .cpp file"),
    ],
)
@pytest.mark.parametrize("command", ["build", "report"])
def test_a_users_error_is_one_line(run, command, arguments, message):
    assert run(command, *arguments) == (2, "", f"e2train: {message}\n")


def test_a_file_without_a_top_function_is_refused(run, tmp_path):
    (tmp_path / "3x3.cpp").touch()
    assert run("build", "3x3.cpp") == (2, "", "e2train: 3x3.cpp: no function that can be the top\n")


def test_what_a_wrapper_leaves_out_is_said(run, synthesis, tmp_path):
    (tmp_path / "3x3.cpp").write_text("int add(int a, int b[N]) { return a + b[0]; }")
    assert run("build", "3x3.cpp", "--top", "add", "-D", "N=2", "-I", ".") == (
        *(0, "a.sv\na.v\n"),
        "3x3.cpp: the interface itself is not checked: a (scalar), b (array), the result of add go through "
        "streams\n",
    )


def test_build_names_the_files(run, synthesis):
    assert run("build") == (0, "a.sv\na.v\n", "")
    code, stdout, _ = run("build", "--json")
    assert (code, json.loads(stdout)["files"]) == (0, ["a.sv", "a.v"])


def test_report_is_one_json_line_per_kernel(run, synthesis, tmp_path):
    (tmp_path / "fir.cpp").write_text("void fir() {}")
    code, stdout, stderr = run("report", "engine", "fir.cpp", "--json")
    engine, fir = map(json.loads, stdout.splitlines())
    assert (code, stderr) == (0, "")
    assert engine["macs_per_cycle"] == {
        "forward": 256,
        "grad_input": 256,
        "grad_weight": 256,
        "grad_msb": 256,
    }
    assert engine["usage"]["bram36"] == {"used": 60.5, "available": 140, "percent": 43.2}
    assert engine["paths_within_period"] is False
    assert (fir["kernel"], fir["macs_per_cycle"]) == ("fir", {})


def test_report_counts_all_engines_of_a_board(run, synthesis, tmp_path):
    (tmp_path / "fir.cpp").write_text("void fir() {}")
    code, stdout, _ = run("report", "engine", "fir.cpp", "--board", "zcu104", "--json")
    engine, fir = map(json.loads, stdout.splitlines())
    assert code == 0
    assert (engine["copies"], fir["copies"]) == (4, 1)
    assert engine["macs_per_cycle"]["forward"] == 1024
    assert (engine["usage"]["dsp"]["used"], fir["usage"]["dsp"]["used"]) == (512, 128)
    _, stdout, _ = run("report", "--board", "zcu104")
    assert "4 x engine on xczu7ev-ffvc1156-2-e" in stdout
    assert "multipliers: 4 x 128" in stdout
    synthesis["lut"] = 230_400 // 4 + 1
    assert run("report", "--board", "zcu104")[0] == 1


def test_report_for_people_says_that_no_vendor_timing_was_run(run, synthesis):
    code, stdout, _ = run("report")
    assert code == 0
    assert "No vendor timing was run" in " ".join(stdout.split())
    assert "grad_weight: 256 MACs of 8 bits per cycle" in stdout
    rows = [" ".join(re.sub("[│┃]", " ", line).split()) for line in stdout.splitlines()]
    assert "load, loop header: word (load.hpp:84) 10.50 80% 12 3 0" in rows
    assert "-> load, loop header, stage 1" in rows
    assert "Timing closure is unproven" in " ".join(stdout.split())


@pytest.mark.parametrize("changed", [{"lut": 53_201}, {"dsp": 221}, {"multipliers": 127}])
def test_exit_code_is_1_where_the_part_is_too_small_or_products_are_missing(run, synthesis, changed):
    synthesis.update(changed)
    assert run("report")[0] == 1


def test_the_budget_is_the_boards():
    config = load_config("kv260")
    budget = part_budget(config)
    assert (budget.dsp, budget.family, budget.period_ns) == (config.dsp, "xcup", config.period_ns)


def test_build_leaves_what_each_pass_makes(run, tmp_path):
    source = tmp_path / "k.cpp"
    source.write_text(
        "#include <hls_stream.h>\n"
        'extern "C" void k(hls::stream<char>& x_in, hls::stream<char>& y_out) { y_out.write(x_in.read()); }\n'
    )
    code, out, err = run("build", str(source), "--dump-ir", "passes", "--verify-ir")
    assert (code, err) == (0, "")
    assert [Path(line).name for line in out.split()][:2] == ["e2hls_fifo.sv", "e2hls_ram.sv"]
    names = [f"{number:02}-{each.name}" for number, each in enumerate(PASSES, 1)]
    found = sorted((tmp_path / "passes" / "k").iterdir())
    assert [path.stem for path in found] == names
    assert [path.suffix for path in found] == 17 * [".ll"] + 8 * [".ir"] + 2 * [".sv"]
    assert all(path.stat().st_size for path in found)


def test_build_tells_warnings_and_hints_as_notes(run, tmp_path):
    (tmp_path / "k.cpp").write_text(
        "#include <hls_stream.h>\n"
        'extern "C" void k(hls::stream<char>& x_in, hls::stream<char>& y_out) {\n'
        "  #pragma HLS LATENCY max=4\n  int unused;\n  y_out.write(x_in.read());\n}\n"
    )
    code, _, err = run("build", "k.cpp")
    assert (code, err.splitlines()) == (
        0,
        [
            "note: k.cpp:3:3: pragma HLS LATENCY is a hint and changes nothing here",
            "note: k.cpp:4:7: unused variable 'unused' [-Wunused-variable]",
        ],
    )


def test_a_folder_for_passes_that_cannot_be_written_is_one_line(run, tmp_path):
    (tmp_path / "k.cpp").write_text(
        "#include <hls_stream.h>\n"
        'extern "C" void k(hls::stream<char>& x_in, hls::stream<char>& y_out) { y_out.write(x_in.read()); }\n'
    )
    (tmp_path / "passes").touch()
    assert run("build", "k.cpp", "--dump-ir", "passes") == (
        *(2, ""),
        "e2train: cannot write passes/k: Not a directory; give another folder\n",
    )
