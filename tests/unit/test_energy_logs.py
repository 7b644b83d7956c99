# SPDX-License-Identifier: Apache-2.0
"""Logs of external meters: read, aligned with a run by time or by a marker, or refused in one line."""

import os
import re
import sys
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from e2train.energy import EnergyError, LogSpec, gauge, open_meter
from e2train.energy.meters import read_csv_log


def log(path, text):
    path.write_text(text, encoding="utf-8")
    return path


HEAD = "time_s,power_w\n"
POINT = "write numbers with a decimal point, and a value for each column"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the columns time_s and power_w, or voltage_v and current_a; it has none"),
        ("t,p\n1,2\n", "needs the columns time_s and power_w, or voltage_v and current_a; it has t, p"),
        (HEAD, "holds 0 samples; at least 2 are needed"),
        (HEAD + "1,2\n", "holds 1 samples; at least 2 are needed"),
        (HEAD + "1,2\n2,high\n", "line 3: could not convert string to float: 'high'"),
        (HEAD + "1,2\n2\n", f"line 3 has 1 columns, the header 2; {POINT}"),
        (HEAD + "1,2\n0,20,5\n", f"line 3 has 3 columns, the header 2; {POINT}"),
        (HEAD + "1,2\n\n2,2,\n", f"line 4 has 3 columns, the header 2; {POINT}"),
        ("time_s,power_w,power_w\n1,2,3\n", "has more than one column power_w; rename all but one"),
        (HEAD + "1,2\nyesterday,2\n", "line 3: Invalid isoformat string: 'yesterday'"),
        (HEAD + "1,2\n2,nan\n", "line 3: 2.0 s, nan W are no finite numbers"),
        (HEAD + "1,2\n3,2\n2,2\n", "line 4: its time 2.000000 s is not after the one before, 3.000000 s"),
        (HEAD + "1,2\n1,2\n", "line 3: its time 1.000000 s is not after the one before, 1.000000 s"),
        ("time_s,power_w,marker\n1,2,0\n2,2,up\n", "line 3: a marker is 0 or 1, not 'up'"),
        ("time_s,power_w,marker\n1,2,0\n2,2,\n", "line 3: a marker is 0 or 1, not ''"),
        (HEAD + "1,2\n2,1_0\n", "line 3: '1_0' is no number"),
        (
            HEAD + "1,2\n2026-01-01T00:00:00Z,2\n",
            "line 3: times are seconds or dates, not both; write all of them alike",
        ),
        (HEAD + "1,2\n2,1e10\n", "line 3: 1e+10 W is no power of a board; power_w is in watts"),
    ],
)
def test_malformed_logs_are_one_line(tmp_path, text, message):
    path = log(tmp_path / "log.csv", text)
    with pytest.raises(EnergyError, match=rf"^{re.escape(str(path))},? {re.escape(message)}$"):
        read_csv_log(path)


def test_a_log_that_is_no_text_is_one_line(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"time_s,power_w\n\xff\xfe\n")
    with pytest.raises(EnergyError, match="is no CSV file"):
        read_csv_log(path)
    with pytest.raises(EnergyError, match=r"^cannot read .*: No such file or directory$"):
        read_csv_log(tmp_path / "nothing.csv")


@pytest.fixture
def clock(monkeypatch):
    """The clocks of a gauge, which stand still but for what is slept."""
    now = SimpleNamespace(s=100.0)
    fake = SimpleNamespace(
        monotonic=lambda: now.s,
        time=lambda: 1.7e9 + now.s,
        sleep=lambda seconds: setattr(now, "s", now.s + seconds),
    )
    monkeypatch.setattr(sys.modules[gauge.__module__], "time", fake)
    return fake


def test_a_log_is_aligned_by_time(tmp_path, clock):
    """The log counts seconds since 1970, the window by a monotonic clock."""
    begin = clock.time()
    rows = "".join(f"{begin - 1 + k * 0.01:.4f},{7.0 if k > 100 else 1.0}\n" for k in range(300))
    spec = LogSpec(path=log(tmp_path / "log.csv", HEAD + rows), by_marker=False)
    with gauge(spec, idle_s=0) as running:
        clock.sleep(0.3)
    measured = running.measured()
    assert measured.reason is None
    assert measured.energy_j == pytest.approx(0.01 * 4.0 + 0.29 * 7.0)


@pytest.mark.parametrize("zone", ["", "+00:00", "Z"])
def test_dates_without_a_zone_are_said_to_be_taken_as_the_machines(tmp_path, clock, zone):
    """A logger in another zone would give the energy of another hour."""
    first = datetime.fromtimestamp(clock.time() - 1, timezone.utc if zone else None)
    times = [(first + timedelta(seconds=k * 0.01)).replace(tzinfo=None) for k in range(300)]
    rows = "".join(f"{time.isoformat()}{zone},1.0\n" for time in times)
    with gauge(LogSpec(path=log(tmp_path / "log.csv", HEAD + rows), by_marker=False), idle_s=0) as running:
        clock.sleep(0.3)
    measured = running.measured()
    assert measured.energy_j == pytest.approx(0.3)
    here = f"{first.astimezone():UTC%z}"
    assert measured.notes == (() if zone else (f"dates without a zone are taken as this machine's, {here}",))


def test_a_meter_that_reads_nothing_measures_nothing(tmp_path, clock):
    rows = "".join(f"{clock.time() - 1 + k * 0.01:.4f},0.0\n" for k in range(300))
    with gauge(LogSpec(path=log(tmp_path / "log.csv", HEAD + rows), by_marker=False), idle_s=0) as running:
        clock.sleep(0.3)
    measured = running.measured()
    assert measured.energy_j is None
    message = r"^log\.csv read 0 in all of 3\d samples; look at its wiring, or choose another --meter$"
    assert re.match(message, measured.reason)


def test_negative_power_is_refused_but_not_single_samples_below_zero(tmp_path, clock):
    """A shunt the wrong way round measures nothing; noise about zero before the run is no reason to stop."""

    def measured(running_w):
        begin = clock.time() + 2.0
        watts = [(-0.01, 0.02)[k % 2] if k < 200 else running_w(k) for k in range(300)]
        rows = "".join(f"{begin - 2 + k * 0.01:.4f},{power_w}\n" for k, power_w in enumerate(watts))
        spec = LogSpec(path=log(tmp_path / "log.csv", HEAD + rows), by_marker=False)
        with gauge(spec, idle_s=2.0) as running:
            clock.sleep(0.3)
        return running.measured()

    refused = measured(lambda k: -2.0)
    assert (refused.energy_j, refused.net_energy_j, refused.source) == (None, None, None)
    assert refused.reason == (
        "log.csv measured a negative mean power, -2 W; look whether its shunt is the wrong way round"
    )
    noisy = measured(lambda k: 5.0 if k % 3 else -0.01)
    assert noisy.reason is None
    assert noisy.energy_j == pytest.approx(0.3 * 10 / 3, rel=0.05)
    assert noisy.net_energy_j == pytest.approx(noisy.energy_j - 0.3 * 0.005, rel=0.01)


def test_idle_power_below_zero_is_left_out(tmp_path, clock):
    begin = clock.time() + 2.0
    rows = "".join(f"{begin - 2 + k * 0.01:.4f},{5.0 if k >= 200 else -2.0}\n" for k in range(300))
    spec = LogSpec(path=log(tmp_path / "log.csv", HEAD + rows), by_marker=False)
    with gauge(spec, idle_s=2.0) as running:
        clock.sleep(0.3)
    measured = running.measured()
    assert measured.energy_j == pytest.approx(0.3 * 5.0)
    assert (measured.idle_power_w, measured.net_energy_j) == (None, None)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (
            "csv",
            "t,p\n1,2\n",
            "needs the columns time_s and power_w, or voltage_v and current_a; it has t, p",
        ),
        ("csv", "\n1,2\n", "needs the columns time_s and power_w, or voltage_v and current_a; it has none"),
        ("csv-marker", HEAD, "has no column marker; align it by time"),
        ("csv", "time_s,time_s,power_w\n", "has more than one column time_s; rename all but one"),
    ],
)
def test_wrong_columns_are_refused_before_the_run(tmp_path, kind, text, message):
    path = log(tmp_path / "log.csv", text)
    with pytest.raises(EnergyError, match=rf"^{re.escape(f'{path} {message}')}$"):
        open_meter(f"{kind}:{path}")


def test_a_log_that_is_no_file_is_refused_before_the_run(tmp_path):
    with pytest.raises(EnergyError, match=r"^cannot read .*: Is a directory$"):
        open_meter(f"csv:{tmp_path}")


def test_a_line_that_was_cut_off_is_left_out_and_a_quote_that_does_not_end_is_refused(tmp_path):
    found = read_csv_log(log(tmp_path / "log.csv", HEAD + "1,2.5\n2,2.5\n3,2.500000"))  # of 2.5e-01
    assert found.times_s.tolist() == [1.0, 2.0]
    path = log(tmp_path / "log.csv", 'time_s,power_w,said\n1,2,"a\n2,2,b\n3,2,c\n')
    with pytest.raises(EnergyError, match="is no CSV file: unexpected end of data"):
        read_csv_log(path)


def test_a_clock_that_is_set_within_a_run_cannot_align_a_log(tmp_path, clock):
    path = tmp_path / "log.csv"
    with gauge(LogSpec(path=path, by_marker=False), idle_s=0) as running:
        clock.sleep(0.5)
        clock.time = lambda: 1.7e9 + 30 + clock.monotonic()
    log(path, HEAD + "".join(f"{1.7e9 + 100 + k * 0.01:.2f},2\n" for k in range(100)))
    assert running.measured().reason == (
        f"this machine's clock was set by +30.000 s, or it slept, while {path} was written, so the two "
        "cannot be aligned by time; use csv-marker"
    )


@pytest.mark.parametrize("text", ["", "time_s", HEAD, HEAD + "1,2\n", "voltage_v, current_a, time_s\r\n"])
def test_a_log_may_be_under_way_before_the_run(tmp_path, text):
    path = log(tmp_path / "log.csv", text)
    assert open_meter(f"csv:{path}") == LogSpec(path=path, by_marker=False)


def test_a_log_that_comes_later_or_through_a_pipe_is_not_looked_at(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("later.csv", "pipe"):
        assert open_meter(f"csv-marker:{tmp_path / name}").by_marker
    with pytest.raises(
        EnergyError, match=r"^there is no folder .*nowhere for a log to come; look at --meter$"
    ):
        open_meter(f"csv:{tmp_path / 'nowhere' / 'log.csv'}")


def test_the_home_of_the_user_may_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_meter("csv:~/log.csv").path == tmp_path / "log.csv"


def test_a_log_is_aligned_by_its_marker(tmp_path, clock):
    """Its clock is any clock; the pulse says where the run was."""
    path = tmp_path / "log.csv"
    with gauge(LogSpec(path=path, by_marker=True), idle_s=0) as running:
        clock.sleep(0.3)
    rows = [(k * 0.01, 7.0 if 50 <= k < 80 else 1.0, int(50 <= k < 80)) for k in range(150)]
    text = "".join(f"{t:.3f},{p},{m}\n" for t, p, m in rows)
    log(path, "time_s,power_w,marker\n" + text)
    measured = running.measured()
    assert measured.reason is None
    assert measured.energy_j == pytest.approx(0.29 * 7.0 + 2 * 0.005 * 5.5)
    log(path, "time_s,power_w,marker\n" + text.replace(",1\n", ",0\n", 10))
    assert "the marker's pulse lasts" in running.measured().reason
    log(path, "time_s,power_w,marker\n" + text.replace(",1\n", ",0\n"))
    assert "the marker must rise once and fall once, it has 0 edges" in running.measured().reason
    log(path, "time_s,power_w\n" + "".join(f"{t:.3f},{p}\n" for t, p, _ in rows))
    assert running.measured().reason == f"{path} has no column marker; align it by time"


def test_a_log_of_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("time_s, power_w\n1, 2.5\n2, 2.5\n", encoding="utf-8-sig")
    assert read_csv_log(path).powers_w.tolist() == [2.5, 2.5]
    log(path, "time_s,power_w,,\n1,2.5,,\n\n2,2.5,,\n")  # empty columns at its right
    assert read_csv_log(path).powers_w.tolist() == [2.5, 2.5]
