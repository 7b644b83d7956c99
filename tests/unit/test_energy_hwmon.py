# SPDX-License-Identifier: Apache-2.0
"""Power sensors of hwmon: which chips there are, and what tells them apart."""

from __future__ import annotations

import re

import pytest
from e2train.energy import EnergyError
from e2train.energy.meters import find_hwmon, open_meter, sensor_rows


def test_chips_that_cannot_be_read_and_gaps_hide_no_others():
    def read(path):
        number = int(path.split("hwmon")[2].split("/")[0])
        if number in (1, 2):
            return None
        if number == 0 and path.endswith("power1_input"):
            raise PermissionError
        return (
            {"name": b"ina260_u14\n", "power1_input": b"5000000\n"}.get(path.split("/")[-1])
            if number < 4
            else None
        )

    assert [meter.read().value for meter in find_hwmon(read)] == [5.0]


def test_auto_prefers_what_watches_the_whole_board():
    def board(*names):
        def read(path):
            number = int(path.split("hwmon")[2].split("/")[0])
            if number >= len(names):
                return None
            return names[number].encode() if path.endswith("name") else b"1000000"

        return read

    assert open_meter("auto", board("irps5401", "ina226_u76")).name == "ina226_u76"
    assert open_meter("auto", board("irps5401", "irps5402")) == (
        "the board has several power sensors; name one with --meter: hwmon:irps5401, hwmon:irps5402"
    )
    assert open_meter("hwmon:irps5402", board("irps5401", "irps5402")).name == "irps5402"


def chips(*described):
    """A board's file reader, of name, label, power or an error, maybe interval per chip; no label is None."""

    def read(path):
        number, file = path.split("hwmon")[2].split("/")
        if int(number) >= len(described):
            return None
        files = zip(("name", "label", "power1_input", "update_interval"), described[int(number)])  # noqa: B905
        content = dict(files).get(file)
        if isinstance(content, Exception):
            raise content
        return content

    return read


@pytest.mark.parametrize(
    ("labels", "told_apart"),
    [
        ((None, None), ("ina226@hwmon0", "ina226@hwmon2")),
        ((b"fpga\n", b"memory\n"), ("ina226@fpga", "ina226@memory")),
        ((b"rail\n", b"rail\n"), ("ina226@hwmon0", "ina226@hwmon2")),
        ((b"fpga\n", b"\n"), ("ina226@hwmon0", "ina226@hwmon2")),
    ],
)
def test_chips_of_one_name_are_told_apart(labels, told_apart):
    first, second = labels
    board = chips((b"ina226\n", first, b"1000000"), (b"tmp\n", None, None), (b"ina226\n", second, b"2000000"))
    assert tuple(meter.name for meter in find_hwmon(board)) == told_apart
    assert sensor_rows(board, "zcu104")[0].found == told_apart
    for name, power_w in zip(told_apart, (1.0, 2.0), strict=True):
        assert open_meter(f"hwmon:{name}", board).read().value == power_w
    listed = ", ".join(f"hwmon:{name}" for name in told_apart)
    refused = f"there are several hwmon meters 'ina226'; name one: {listed}"
    with pytest.raises(EnergyError, match=f"^{re.escape(refused)}$"):
        open_meter("hwmon:ina226", board)
    assert open_meter("auto", board) == (
        f"the board has several power sensors; name one with --meter: {listed}"
    )


@pytest.mark.parametrize(
    ("interval", "period_s"),
    [((), 0.15), ((b"35\n",), 0.15), ((b"16883\n",), 16.883), ((b"soon",), 0.15), ((OSError("off"),), 0.15)],
)
def test_a_chip_that_averages_for_long_has_that_period(interval, period_s):
    """Else values from before a window count as its own."""
    (meter,) = find_hwmon(chips((b"ina226", None, b"2000000", *interval)))
    assert meter.period_s == period_s


def test_a_chip_that_is_off_lends_its_name_to_no_other():
    board = chips(
        (b"ina226", None, OSError("off")), (b"ina226", None, b"2000000"), (b"ina260", None, b"3000000")
    )
    assert [meter.name for meter in find_hwmon(board)] == ["ina226@hwmon1", "ina260"]
    assert open_meter("hwmon:ina226@hwmon1", board).read().value == 2.0
    with pytest.raises(EnergyError, match=r"^there are several .* 'ina226'; name one: hwmon:ina226@hwmon1$"):
        open_meter("hwmon:ina226", board)
    with pytest.raises(EnergyError, match=r"^no hwmon meter 'ina3221'; there are: ina226@hwmon1, ina260$"):
        open_meter("hwmon:ina3221", board)


def test_a_simulated_chip_of_two_says_what_it_is():
    board = chips((b"simulated_ina226", b"a\xff", b"1"), (b"simulated_ina226", b"b", b"2"))
    assert [(meter.name, meter.origin) for meter in find_hwmon(board)] == [
        ("simulated_ina226@a\ufffd", "simulated"),
        ("simulated_ina226@b", "simulated"),
    ]
