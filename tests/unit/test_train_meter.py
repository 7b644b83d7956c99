# SPDX-License-Identifier: Apache-2.0
"""The meter of a run: a log that an external meter writes, over several parts of a run."""

import shutil
import signal
import time
from functools import partial

import pytest
from e2train.energy import EnergyError, gauge
from e2train.train import PRESETS, Interrupted, run_training
from e2train.train.checkpoint import load_checkpoint

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
    shutil.copyfile(meter_log, tmp_path / "other.csv")
    other = slow.changed(meter=f"csv:{tmp_path / 'other.csv'}")
    with pytest.raises(EnergyError) as error:
        run_training(other, out=out, resume=True)
    assert str(error.value) == (
        "the run so far was measured by log.csv, now it would be measured by other.csv; go on with the same "
        "--meter, or with --meter none and no energy"
    )
    summary = run_training(slow.changed(meter="none"), out=out, resume=True)
    assert (summary.energy_measured_j, summary.energy_reason) == (None, "no meter was asked for")


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
