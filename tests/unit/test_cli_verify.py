# SPDX-License-Identifier: Apache-2.0
"""``e2train verify``: its table in a terminal of 80 columns, and what it refuses before it builds."""

import os

import pytest
from e2sim.verify import VerifyReport, VerifyRow, VerifyTarget, Verilator, project_modules
from e2sim.verify import run as run_benches
from e2train.cli.app import main
from e2train.cli.verify import _print_table

NAMES = ("transfer_of_many_frames_equals_spec/idle=sometimes/stall=always_with_a_long_name", "reset[mode=x]")


def report(*kernels):
    rows = [
        VerifyRow(
            kernel=kernel, test=name, passed=name == NAMES[1], cases=1200, cycles=12_345_678, seconds=123.4
        )
        for kernel in kernels
        for name in NAMES
    ]
    return VerifyReport(rows=tuple(rows), seed=3)


@pytest.mark.parametrize("kernels", [("engine",), ("engine", "other_kernel")], ids=len)
def test_names_and_figures_are_whole(capsys, monkeypatch, kernels):
    monkeypatch.setenv("COLUMNS", "80")
    _print_table(report(*kernels))
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if ":" not in line) <= 80
    assert not [line for line in lines if "\N{HORIZONTAL ELLIPSIS}" in line]
    assert f"{', '.join(kernels)}, seed 3" in [line.strip() for line in lines]
    rows = lines[
        lines.index(next(line for line in lines if "\N{BOX DRAWINGS LIGHT HORIZONTAL}" in line)) + 1 :
    ]
    begin, end = len(" other_kernel  ") if len(kernels) == 2 else 1, rows[0].index("FAIL")
    names = "".join(line[begin:end].strip() for line in rows[: rows.index(next(filter(_blank, rows)))])
    assert names == "".join(NAMES) * len(kernels)
    failing = [line.split()[-4:] for line in rows if "FAIL" in line]
    assert failing == [["FAIL", "1200", "12345678", "123.4"]] * len(kernels)


def _blank(line):
    return not line.strip()


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """The one line with which the command line refuses arguments."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["e2train", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        stdout, stderr = capsys.readouterr()
        assert (stop.value.code, stdout, stderr.count("\n")) == (2, "", 1)
        return stderr

    return call


@pytest.mark.parametrize("benches", [[], ["engine"]])
@pytest.mark.parametrize("option", [("--kernel", "none.cpp"), ("--top", "f"), ("-I", "."), ("-D", "X")])
def test_options_of_a_kernel_need_a_bench(refused, benches, option):
    assert refused("verify", *benches, *option).startswith(
        "e2train: invalid value: --kernel, --top, -I and -D belong to a bench of your own: "
        "e2train verify NAME_bench.py --kernel FILE.cpp; see "
    )


def test_a_bench_with_the_name_of_the_projects_is_refused(refused, tmp_path):
    assert project_modules() == {"changed_frames", "stream_bench", "engine_bench", "engine_cases"}
    for name in project_modules():
        (tmp_path / f"{name}.py").touch()
        line = f"{name}.py: e2train's own benches have a module {name}; rename the file"
        assert refused("verify", f"{name}.py", "--kernel", "none.cpp") == f"e2train: {line}\n"


def test_the_users_settings_of_cocotb_reach_no_bench(monkeypatch, tmp_path):
    """Neither cocotb's runner, which reads some itself, nor the simulation."""
    settings = {"COCOTB_TEST_FILTER", "COCOTB_TESTCASE", "COCOTB_RANDOM_SEED", "TESTCASE", "RANDOM_SEED"}
    settings |= {"WAVES", "GUI", "SIM_CMD_PREFIX", "GPI_USERS", "PYTHONOPTIMIZE"}
    for name in settings:
        monkeypatch.setenv(name, "x")
    seen = []
    monkeypatch.setattr("e2sim.verify._build", lambda *_, **__: tmp_path)
    monkeypatch.setattr(Verilator, "test", lambda *_, **__: seen.append(set(os.environ)))
    design = type("Design", (), {"name": "k"})()
    assert not run_benches([VerifyTarget(design=design, bench="none")], out=tmp_path).passed
    assert len(seen) == 1
    assert not seen[0] & settings
    assert settings < set(os.environ)
