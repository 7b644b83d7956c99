# SPDX-License-Identifier: Apache-2.0
"""The table of ``e2train verify`` in a terminal of 80 columns."""

import pytest
from e2sim.verify import VerifyReport, VerifyRow
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
