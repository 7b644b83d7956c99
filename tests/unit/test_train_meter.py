# SPDX-License-Identifier: Apache-2.0
"""The meter of a run: a log that an external meter writes, over several parts of a run."""

import shutil
import signal
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from e2train.energy import EnergyError, Gauge, LogSpec, Measured, gauge
from e2train.energy.readings import Gap
from e2train.nn import Group
from e2train.runtime import Ledger
from e2train.train import PRESETS, Interrupted, RunFolder, read_run, run_training
from e2train.train.checkpoint import load_checkpoint
from e2train.train.meter import check_same_meter, rank_meter
from e2train.train.run_ledger import RankLedger
from recordings import Scripted

CONFIG = PRESETS["digits"].changed(method="smb-int8", execution="offload", steps=6, batch=8, seed=7)


def stop_after(step):
    """A watcher that presses Ctrl-C."""
    return lambda row: signal.raise_signal(signal.SIGINT) if row.step == step else None


@pytest.fixture
def meter_log(tmp_path):
    """The log of an external meter, whole from the start: 5 W before the test and for five minutes of it."""
    begin_s, path = time.time() - 3, tmp_path / "log.csv"
    rows = "".join(f"{begin_s + index / 100:.2f},5.0\n" for index in range(30_000))
    path.write_text(f"time_s,power_w\n{rows}", encoding="utf-8")
    return path


def test_a_log_tells_the_energy_of_a_run_that_was_stopped(meter_log, tmp_path, monkeypatch):
    monkeypatch.setattr("e2train.train.meter.gauge", partial(gauge, idle_s=0.2))
    step_s = 0.05  # at least

    def watch(row):
        time.sleep(step_s)
        stop_after(4)(row)

    slow, out = CONFIG.changed(steps=8, meter=f"csv:{meter_log}", test_images=8), tmp_path / "run"
    with pytest.raises(Interrupted):
        run_training(slow, out=out, watch=watch)
    (part,) = load_checkpoint(out / "checkpoint.pt", config=slow).spent[0]["energy"]
    assert part["energy_j"] == pytest.approx(5 * part["duration_s"])
    summary = run_training(slow, out=out, resume=True, watch=lambda row: time.sleep(step_s))
    assert part["duration_s"] > 4 * step_s
    assert summary.energy_duration_s > part["duration_s"] + 4 * step_s
    assert summary.energy_measured_j == pytest.approx(5 * summary.energy_duration_s)
    assert summary.energy_net_j == pytest.approx(0, abs=1e-6)


def test_a_run_goes_on_with_its_meter_or_with_none(meter_log, tmp_path, monkeypatch):
    monkeypatch.setattr("e2train.train.meter.gauge", partial(gauge, idle_s=0.2))
    slow, out = CONFIG.changed(steps=8, meter=f"csv:{meter_log}", test_images=8), tmp_path / "run"

    def watch(row):
        time.sleep(0.05)
        stop_after(4)(row)

    with pytest.raises(Interrupted):
        run_training(slow, out=out, watch=watch)
    monkeypatch.setattr("e2train.train.meter.open_meter", lambda *found, **where: Scripted())
    with pytest.raises(EnergyError) as error:
        run_training(slow, out=out, resume=True)
    assert str(error.value) == (
        "the run so far was measured by log.csv, now it would be measured by scripted; go on with the same "
        "--meter, or with --meter none and no energy"
    )
    monkeypatch.undo()
    shutil.copytree(out, tmp_path / "next")
    summary = run_training(slow.changed(meter="none"), out=out, resume=True)
    assert (summary.energy_measured_j, summary.energy_reason) == (None, "no meter was asked for")
    monkeypatch.setattr("e2train.train.meter.gauge", partial(gauge, idle_s=0.2))
    shutil.copyfile(meter_log, tmp_path / "log2.csv")  # of the meter's next session
    late = slow.changed(meter=f"csv:{tmp_path / 'log2.csv'}")
    summary = run_training(late, out=tmp_path / "next", resume=True, watch=lambda row: time.sleep(0.05))
    assert summary.energy_source == "measured by log.csv, measured by log2.csv"


def test_a_log_does_not_go_on_from_a_meter(tmp_path):
    """Theirs would be joules of two places."""
    by_meter = Measured(energy_j=1.0, duration_s=1.0, source="measured by rapl", origin="measured")
    log = LogSpec(path=tmp_path / "wall.csv", by_marker=False)
    check_same_meter(
        log, RankLedger(ledger=Ledger(), earlier_energy=(replace(by_meter, from_log=True), Measured()))
    )
    message = "^the run so far was measured by rapl, now it would be measured by wall.csv; go on with"
    with pytest.raises(EnergyError, match=message):
        check_same_meter(log, RankLedger(ledger=Ledger(), earlier_energy=(by_meter,)))


def test_what_a_meter_noted_is_in_the_summary(meter_log, tmp_path, monkeypatch):
    monkeypatch.setattr("e2train.train.meter.gauge", partial(gauge, idle_s=0.2))
    whole = Gauge.measured
    trouble = {"gaps": (Gap(start_s=0.5, duration_s=0.04),), "notes": ("a sample was lost: busy",)}
    monkeypatch.setattr(Gauge, "measured", lambda self: replace(whole(self), **trouble))
    config = CONFIG.changed(meter=f"csv:{meter_log}", test_images=8)
    summary = run_training(config, out=tmp_path / "run", watch=lambda row: time.sleep(0.05))
    assert summary.energy_notes == "gap of 0.040 s at 0.500 s; a sample was lost: busy"
    assert read_run(tmp_path / "run").summary.energy_notes == summary.energy_notes
    assert f"; {summary.energy_notes}</li>" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("meter", ["none", "auto"])
def test_each_rank_has_a_board_of_its_own(tmp_path, meter):
    """Addresses are a list, of which a rank has one."""
    config = CONFIG.changed(device="agent:127.0.0.1:7001,agent:127.0.0.1:7002", meter=meter)
    group = Group()
    group.size, group.rank = 2, 1
    context = SimpleNamespace(device=SimpleNamespace())
    assert rank_meter(config, context, group, RunFolder(tmp_path)) is None  # the first rank has the meter
    group.rank = 0
    assert isinstance(rank_meter(config, context, group, RunFolder(tmp_path)), str)


def test_what_is_elsewhere_is_not_measured_here(tmp_path):
    context = SimpleNamespace(device=SimpleNamespace())
    for device, kind, message in (
        ("agent:board.local", "hwmon", "an agent does not report power, which meter hwmon takes"),
        ("pynq:board.local", "pmbus", "this machine's libsensors does not know a board's rails"),
    ):
        with pytest.raises(EnergyError, match=f"^{message}"):
            rank_meter(CONFIG.changed(device=device, meter=kind), context, Group(), RunFolder(tmp_path))


@pytest.mark.parametrize("name", ["power.csv", "metrics.jsonl", "config.toml"])
def test_a_log_that_the_run_would_replace_is_refused(meter_log, tmp_path, name):
    out = tmp_path / "run"
    out.mkdir()
    log = shutil.copyfile(meter_log, out / name)
    with pytest.raises(
        EnergyError, match=r"is a file of the run itself; give the log another name or place$"
    ):
        run_training(CONFIG.changed(meter=f"csv:{log}"), out=out)
    assert log.read_bytes() == meter_log.read_bytes()
