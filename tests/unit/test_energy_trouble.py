# SPDX-License-Identifier: Apache-2.0
"""Meters that fail, windows that are too short, costs that make no sense: one line each, and nothing lost."""

import json
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from e2train.energy import (
    EnergyError,
    Measured,
    PowerLog,
    Recorder,
    check_meter,
    gauge,
    open_meter,
    sensor_rows,
    write_samples,
)
from e2train.energy.meters import Reading, find_rapl, open_ina226, open_joulescope, read_csv_log
from recordings import Scripted, power


def test_a_short_window_is_refused():
    recording = power(np.arange(0, 2, 0.1))
    with pytest.raises(EnergyError, match=r"0\.9 s are too short for m, which has a new value every 0\.1 s"):
        recording.window(0.0, 0.9)
    assert recording.window(0.0, 1.0).energy_j == pytest.approx(3.0)


def test_a_gap_is_flagged_and_not_bridged_unless_short():
    times = np.delete(np.arange(0, 100, 0.1), slice(500, 505))
    window = power(times).window(0.0, 99.0)
    (gap,) = window.gaps
    assert (gap.start_s, gap.duration_s) == (pytest.approx(49.9), pytest.approx(0.6))
    assert window.energy_j == pytest.approx(297.0)
    with pytest.raises(EnergyError, match=r"^m was silent for 10.1 of 99 s; energy not reported$"):
        power(np.delete(np.arange(0, 100, 0.1), slice(500, 600))).window(0.0, 99.0)


@pytest.mark.parametrize("seen", [slice(30, 80), slice(0, 70), slice(25, 100)])
def test_a_meter_that_comes_late_or_dies_early_gives_no_energy(seen):
    times = np.arange(0.05, 10, 0.1)[seen]
    with pytest.raises(EnergyError, match=r"^m was silent for "):
        power(times).window(0.0, 10.0)


def test_a_sensor_that_loses_most_samples_of_a_short_window_gives_no_energy():
    slow = power(np.arange(0.08, 20, 0.28))
    with pytest.raises(EnergyError, match=r"^m gave 4 values in 1 s, and 5 are needed; measure longer$"):
        slow.window(0.0, 1.0)
    assert slow.window(0.0, 10.0).energy_j == pytest.approx(30.0)


def test_a_counter_counts_through_a_gap_but_not_beyond_its_end():
    times = np.delete(np.arange(0, 100, 0.1), slice(500, 600))
    recording = power(times, 3 * times, counts_energy=True)
    window = recording.window(0.0, 99.0)
    assert len(window.gaps) == 1
    assert window.energy_j == pytest.approx(297.0)
    with pytest.raises(EnergyError, match="m was silent for 50"):
        power(times[:500], 3 * times[:500], counts_energy=True).window(0.0, 99.95)


@pytest.mark.parametrize("lost", [OSError("no such chip"), EnergyError("sensor gone"), RuntimeError("board")])
def test_a_sensor_that_goes_is_noted_and_what_it_said_is_kept(lost, tmp_path):
    clock = SimpleNamespace(now_s=0.0)
    recorder = Recorder(
        Scripted(*[2.0] * 30, *[lost] * 30), clock=lambda: clock.now_s, wall=lambda: clock.now_s
    )
    for sample in range(60):
        clock.now_s = sample * 0.1
        recorder.take()
    recording = recorder.recording()
    assert recording.notes == (f"a sample was lost: {lost}", "30 samples were lost")
    with pytest.raises(EnergyError, match=rf"silent for 3 of 5\.9 s \(a sample was lost: {lost}\)"):
        recording.window(0.0, 5.9)
    write_samples(recording, tmp_path / "power.csv")
    assert len(read_csv_log(tmp_path / "power.csv").times_s) == 30


@pytest.mark.parametrize(
    ("said", "note"),
    [
        (float("nan"), "scripted read nan at 1.0 s, no finite number"),
        (float("inf"), "scripted read inf at 1.0 s, no finite number"),
        (None, "must be real number, not NoneType"),
        (TypeError("two\nlines"), "two lines"),
        (ValueError("no number"), "no number"),
        (OverflowError(), "OverflowError"),
    ],
)
def test_a_reading_that_is_no_number_is_a_lost_sample(said, note):
    clock = SimpleNamespace(now_s=0.0)
    recorder = Recorder(
        Scripted(*[2.0] * 10, said, *[2.0] * 10), clock=lambda: clock.now_s, wall=lambda: clock.now_s
    )
    for sample in range(21):
        clock.now_s = sample * 0.1
        recorder.take()
    recording = recorder.recording()
    assert recording.notes == (f"a sample was lost: {note}",)
    assert recording.window(0.0, 2.0).energy_j == pytest.approx(4.0)


@pytest.mark.parametrize("counts_energy", [False, True])
def test_samples_are_on_the_disk_as_they_come(tmp_path, counts_energy):
    clock, path = SimpleNamespace(now_s=5.0), tmp_path / "power.csv"
    says = [2.0, 4.0, 6.0, 3.0] if not counts_energy else [100.0, 104.0, 1.0, 4.0]
    meter, log = Scripted(*says), PowerLog(path)
    meter.counts_energy, meter.wraps_at_j = counts_energy, 105.0 if counts_energy else None
    recorder = Recorder(meter, log=log, clock=lambda: clock.now_s, wall=lambda: clock.now_s)
    lines = []
    for number in range(4):
        recorder.mark = number
        recorder.take()
        clock.now_s += 1.0
        if number == 1:
            log.begin(6.0)  # the samples before are idle time
        if number:
            lines.append(path.read_text().splitlines()[1:])
    found = [[float(value) for value in line.split(",")] for line in lines[-1]]
    want = [[-1, 2, 0], [0, 4, 1], [1, 6, 2], [2, 3, 3]]
    if counts_energy:  # mean power between samples, across the counter's end
        want = [[-0.5, 4, 1], [0.5, 2, 2], [1.5, 3, 3]]
    assert found == want
    assert [len(each) for each in lines] == [len(want) - 2, len(want) - 1, len(want)]
    log.close()
    before = path.read_text()
    write_samples(replace(recorder.recording(), times_s=recorder.recording().times_s - 6.0), path)
    assert path.read_text() == before
    later = PowerLog(path, after_s=10.0)  # a run that goes on
    later.begin(1.0)
    later.add(0.5, 1.0, 8)
    later.add(1.5, 7.0, 9)
    later.close()
    assert path.read_text() == before + "10.500000000,7.000000,9\n"


def test_a_disk_that_is_full_is_an_error_of_the_end_alone(tmp_path):
    log = PowerLog(tmp_path / "no folder" / "power.csv")
    log.add(0.0, 1.0, 0)
    log.begin(0.0)
    log.add(1.0, 1.0, 0)
    with pytest.raises(FileNotFoundError):
        log.close()


@pytest.mark.parametrize(("says", "origin"), [([2.0] * 50, "measured"), ([OSError("no chip")] * 50, None)])
def test_an_origin_is_that_of_samples(says, origin):
    """A window too short for an energy has samples still; a chip that never answers has none."""
    with gauge(Scripted(*says), idle_s=0) as running:
        pass
    measured = running.measured()
    assert (measured.energy_j, measured.origin) == (None, origin)


def test_a_counter_that_nobody_read_for_longer_than_a_wrap_is_refused():
    """100 W, a counter of 65 kJ, and a program that was stopped for a minute, or for an hour."""
    for pause_s, refused in ((60, False), (3600, True)):
        times_s = np.concatenate([np.arange(0, 60, 0.05), 60 + pause_s + np.arange(0, 60, 0.05)])
        counted = power(
            times_s, 100 * times_s % 65_532, counts_energy=True, wraps_at_j=65_532.0, meter="rapl"
        )
        if refused:
            with pytest.raises(EnergyError, match=r"^rapl was not read for 3\.6e\+03 s, in which it "):
                counted.window(1.0, pause_s + 110.0)
        else:
            assert counted.window(1.0, pause_s + 110.0).energy_j == pytest.approx(100 * (pause_s + 109))


def ina226_words(monkeypatch) -> dict[int, int]:
    """The registers of the chip that is opened from now on, as after a reset."""
    words = {0x00: 0x4127, 0x01: 0x7FFF, 0x02: 4000, 0xFE: 0x5449, 0xFF: 0x2260}
    bus = SimpleNamespace(
        read_word_data=lambda chip, register: int.from_bytes(words[register].to_bytes(2, "big"), "little")
    )
    monkeypatch.setattr("smbus2.SMBus", lambda number: bus)
    return words


@pytest.mark.parametrize(
    ("configuration", "period_s"),
    [(0x4127, 0.02), (0x4527, 16 * 2 * 1.1e-3), (0x4FFF, 1024 * 2 * 8.244e-3)],
    ids=["as after a reset", "16 averages", "the slowest"],
)
def test_a_chip_that_averages_has_a_longer_period(monkeypatch, configuration, period_s):
    ina226_words(monkeypatch)[0x00] = configuration
    assert open_ina226("1,0x40,0.1").period_s == pytest.approx(period_s)


@pytest.mark.parametrize("configuration", [0x4120, 0x4123, 0x4126])
def test_a_chip_that_does_not_measure_on_its_own_is_refused(monkeypatch, configuration):
    ina226_words(monkeypatch)[0x00] = configuration
    with pytest.raises(EnergyError, match=rf"its configuration is {configuration:#06x}; set its mode to 7"):
        open_ina226("1,0x40,0.1")


@pytest.mark.parametrize("shunt", ["100", "2", "inf", "0", "nan"])
def test_milliohms_in_place_of_ohms_are_refused(monkeypatch, shunt):
    with pytest.raises(EnergyError, match=r"a shunt above 0 and up to 1 ohm, not "):
        open_ina226(f"1,0x40,{shunt}")


def test_beyond_the_range_of_a_shunt_there_is_no_power(monkeypatch):
    words = ina226_words(monkeypatch)
    meter = open_ina226("1,0x40,0.1")
    for full in (0x7FFF, 0x8000):
        words[0x01] = full
        with pytest.raises(EnergyError, match=r"^ina226 on I2C: 0\.819 A or more, beyond its range; take a "):
            meter.read()
    words[0x01] = 0x7FFE
    assert meter.read().value == pytest.approx(4.096, rel=1e-3)


def test_a_step_of_the_wall_clock_is_noted_and_changes_nothing():
    now = SimpleNamespace(s=0.0, wall=1e9)
    recorder = Recorder(Scripted(*[2.0] * 40), clock=lambda: now.s, wall=lambda: now.wall)
    for sample in range(40):
        now.s, now.wall = sample * 0.1, 1e9 + sample * 0.1 - (3600 if sample > 20 else 0)
        recorder.take()
    recording = recorder.recording()
    assert recording.notes == ("the wall clock stepped by -3600.000 s; samples keep monotonic time",)
    assert recording.window(0.0, 3.9).energy_j == pytest.approx(7.8)


def test_idle_power_is_taken_off():
    class TwoPowers(Scripted):
        period_s = 0.05
        watts = 1.0

        def read(self):
            return Reading(self.watts)

    meter = TwoPowers()
    with gauge(meter, idle_s=0.7) as running:
        meter.watts = 5.0
        time.sleep(1.0)
    measured = running.measured()
    assert measured.reason is None
    assert measured.idle_power_w == pytest.approx(1.0)
    assert measured.energy_j == pytest.approx(5.0 * measured.duration_s, rel=0.1)
    assert measured.net_energy_j == pytest.approx(
        measured.energy_j - measured.idle_power_w * measured.duration_s
    )
    assert measured.source == "measured by scripted"
    assert Measured.from_dict(json.loads(json.dumps(measured.to_dict()))) == measured


def test_without_a_sensor_there_is_a_reason_and_no_energy():
    with gauge(open_meter("auto"), idle_s=0) as running:
        pass
    measured = running.measured()
    assert (measured.energy_j, measured.net_energy_j, measured.source) == (None, None, None)
    assert measured.origin is None
    assert measured.reason == "the device has no power sensor; name another meter with --meter"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("watts", "no meter 'watts'; there are: auto"),
        ("csv", "meter csv needs to know which"),
        ("ina226", "meter ina226 needs to know which"),
    ],
)
def test_unknown_meters_are_one_line(spec, message):
    with pytest.raises(EnergyError, match=re.escape(message)):
        check_meter(spec)


def test_a_meter_that_is_named_must_be_there(monkeypatch):
    with pytest.raises(EnergyError, match=r"^no hwmon meter 'x': the board has no power sensor$"):
        open_meter("hwmon:x", lambda path: None)
    monkeypatch.setattr("e2train.energy.meters.find.find_rapl", list)
    with pytest.raises(EnergyError, match=r"^no rapl meter: no /sys/class/powercap/intel-rapl:0$"):
        open_meter("rapl")
    with pytest.raises(EnergyError, match="ina226 takes BUS,ADDRESS,SHUNT_OHM such as"):
        open_ina226("1,0x40")
    with pytest.raises(EnergyError, match="no INA226 at 0x40 of I2C bus 250: No such file or directory"):
        open_ina226("250,0x40,0.1")
    chip = SimpleNamespace(read_word_data=lambda address, register: 0x1234)
    monkeypatch.setattr("smbus2.SMBus", lambda number: chip)
    with pytest.raises(EnergyError, match="the chip at 0x40 is no INA226: it says 0x3412, 0x3412"):
        open_ina226("1,0x40,0.1")


def test_a_joulescope_needs_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "joulescope", None)
    with pytest.raises(EnergyError, match="a Joulescope needs its package"):
        open_joulescope()


def test_one_of_several_packages_must_be_named(monkeypatch):
    files = {
        f"/sys/class/powercap/intel-rapl:{index}/{name}": text
        for index in range(2)
        for name, text in {"name": f"package-{index}", "energy_uj": "1", "max_energy_range_uj": "9"}.items()
    }
    read = {path: text.encode() for path, text in files.items()}.get
    monkeypatch.setattr("e2train.energy.meters.find.find_rapl", lambda: find_rapl(read))
    with pytest.raises(EnergyError, match=r"several rapl meters; name one: rapl:package-0, rapl:package-1$"):
        open_meter("rapl")
    assert open_meter("rapl:package-1").name == "rapl package-1"


def powercap(monkeypatch, packages: dict[int, dict[str, str]], *, root_only: tuple[int, ...] = ()) -> None:
    """Processors' packages, some of whose counters only root may read."""

    def read(path):
        folder, _, name = path.rpartition("/")
        index = int(folder.rpartition(":")[2])
        if name == "energy_uj" and index in root_only:
            raise PermissionError
        text = packages.get(index, {}).get(name)
        return None if text is None else text.encode()

    for module in ("find", "rapl"):
        monkeypatch.setattr(f"e2train.energy.meters.{module}.find_rapl", lambda: find_rapl(read))


PACKAGES = {
    index: {"name": f"package-{index}\n", "energy_uj": "5000000", "max_energy_range_uj": "9000000"}
    for index in range(2)
}


def test_a_counter_that_only_root_may_read_says_so_and_spares_the_others(monkeypatch):
    powercap(monkeypatch, PACKAGES, root_only=(0,))
    path = "/sys/class/powercap/intel-rapl:0/energy_uj"
    with pytest.raises(EnergyError) as error:
        open_meter("rapl:package-0")
    assert str(error.value) == f"{path} may not be read; run as root, or: sudo chmod a+r {path}"
    assert open_meter("rapl:package-1").read().value == 5.0
    with pytest.raises(EnergyError, match=r"several rapl meters; name one: rapl:package-0, rapl:package-1$"):
        open_meter("rapl")  # one of two would be half of the processors' energy
    rows = {row.kind: row for row in sensor_rows() if row.kind == "rapl"}
    assert rows["rapl"].found == ("rapl package-1",)


def test_counters_of_which_none_may_be_read_say_so(monkeypatch):
    powercap(monkeypatch, PACKAGES, root_only=(0, 1))
    (row,) = (row for row in sensor_rows() if row.kind == "rapl")
    assert (row.found, row.reason.partition(" may not")[0]) == (
        (),
        "/sys/class/powercap/intel-rapl:0/energy_uj",
    )


def test_a_counter_without_a_range_works_until_it_starts_again(monkeypatch):
    powercap(monkeypatch, {0: {key: PACKAGES[0][key] for key in ("name", "energy_uj")}})
    meter = open_meter("rapl")
    assert (meter.read().value, meter.wraps_at_j) == (5.0, None)
    times_s, rising = np.arange(0, 3, 0.1), np.arange(0, 30, 1.0)
    counted = power(times_s, rising, counts_energy=True, meter=meter.name)
    assert counted.window(0.0, 2.9).energy_j == pytest.approx(29)
    wrapped = power(times_s, rising % 20, counts_energy=True, meter=meter.name)
    with pytest.raises(EnergyError) as error:
        wrapped.window(0.0, 2.9)
    assert str(error.value) == (
        "rapl package-0 started to count again and does not say at what value; energy not reported"
    )


def test_a_counter_that_was_reset_is_not_one_that_wrapped():
    """A step back to nearly 0 long before the counter's end, within the window alone."""
    times_s, counted = np.arange(0, 6, 0.1), np.arange(0, 60, 1.0) + 5000.0
    counted[20:] -= counted[20]
    recording = power(times_s, counted, counts_energy=True, wraps_at_j=262_143.0)
    with pytest.raises(EnergyError) as error:
        recording.window(0.0, 5.9)
    assert str(error.value) == (
        "m was reset: as a wrap, the step back would mean 2.57e+06 W, more than 2000 W; "
        "energy not reported, measure again"
    )
    assert recording.window(2.05, 5.9).energy_j == pytest.approx(38.5)
    with pytest.raises(EnergyError, match=r"^m was reset: "):
        recording.window(1.95, 5.9)


def test_samples_too_large_to_add_up_are_no_energy():
    with np.errstate(all="ignore"), pytest.raises(EnergyError, match=r"^m gave samples too large to add up"):
        power(np.arange(0, 2, 0.1), [1e308] * 20).window(0.0, 1.5)


def test_every_kind_of_sensor_is_listed_with_what_there_is_or_why_not():
    files = {
        "/sys/class/hwmon/hwmon0/name": b"simulated_ina226_u183\n",
        "/sys/class/hwmon/hwmon0/power1_input": b"1",
    }
    rows = sensor_rows(files.get, "zcu104")
    assert rows[0].found == ("simulated_ina226_u183",)
    assert {row.kind for row in rows} == {"hwmon", "pmbus", "rapl", "ina226", "joulescope", "csv"}
    assert all(row.found or row.reason for row in rows)
