# SPDX-License-Identifier: Apache-2.0
"""Runs: their files, their determinism, and going on after a stop as if nothing had been."""

import json
import shutil
import signal
import warnings
from dataclasses import replace

import pytest
import torch
from e2train.devices import Counters
from e2train.devices.emulator import Emulator
from e2train.energy import EnergyError
from e2train.train import PRESETS, Interrupted, TrainError, read_run, run_training
from e2train.train.data import Arrays, Batches, digits_split, hold_out
from e2train.train.data.dataset import DataWarning
from e2train.train.smd import Smd
from e2train.train.summary import _board_figures as board_figures
from e2train.train.summary import executed
from report_pages import charts

CONFIG = PRESETS["digits"].changed(method="smb-int8", execution="offload", steps=6, batch=8, seed=7)


def stop_after(step):
    """A watcher that presses Ctrl-C."""

    def watch(row):
        if row.step == step:
            signal.raise_signal(signal.SIGINT)

    return watch


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    return out, run_training(CONFIG, out=out)


@pytest.mark.parametrize(("device", "board"), [("csim:here", "pynq_z2"), ("emulator", "zcu104")])
def test_what_only_one_of_its_devices_counts_is_left_out(tmp_path, monkeypatch, device, board):
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        run_training(CONFIG, out=out, watch=stop_after(4))
    monkeypatch.setattr("e2train.train.run.device_of_rank", lambda config, group: device)
    run_training(CONFIG.changed(board=board), out=out, resume=True)
    run = read_run(out)
    second = f"{device.partition(':')[0]} ({board})"
    assert run.ledger.devices == ("emulator (pynq_z2)", second)
    note = f"computed on emulator (pynq_z2), then on {second}: cycles, bytes and times"
    assert note in (out / "report.html").read_text(encoding="utf-8")
    counted = Counters(frames=1, cycles=5, words_in=2, device_s=3.0, moving_s=1.0)
    rows = tuple(replace(row, counters=counted) for row in run.ledger.training[:1])
    ledger = replace(run.ledger, training=rows, averaging=(), test=())
    alone = replace(ledger, devices=("csim",))
    assert [executed(CONFIG, each)["cycles"] for each in (ledger, alone)] == [None, 5]
    assert [executed(CONFIG, each)["bytes_moved"] for each in (ledger, alone)] == [None, 16]
    assert [board_figures(each)["device_s_per_step"] for each in (ledger, alone)] == [None, 0.5]


def test_statistics_of_averaged_weights_are_those_of_large_batches(tmp_path, monkeypatch):
    """One image at the end of an epoch would count as much as all others."""
    taken, load = [], Batches.load
    monkeypatch.setattr(Batches, "load", lambda self, step: taken.append(step) or load(self, step))
    config = CONFIG.changed(method="signsgd", steps=2, batch=479, swa_first=0.5, test_images=8)
    run_training(config, out=tmp_path)
    assert len(digits_split().train) == 3 * 479
    assert taken == [0, 1, 2, 3, 4]
    taken.clear()
    run_training(config.changed(batch=718), out=tmp_path, overwrite=True)
    assert taken == [0, 1, 3, 4]  # step 2 has one image


def test_a_run_leaves_its_files(undisturbed):
    out, summary = undisturbed
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.pt", "config.toml", "evaluation.json", "ledger.json", "metrics.jsonl", "model.pt",
        "report.html", "summary.json",
    ]  # fmt: skip
    assert json.loads((out / "summary.json").read_text()) == json.loads(summary.to_json())
    assert [row["step"] for row in rows_of(out)] == [1, 2, 3, 4, 5, 6]
    report = (out / "report.html").read_text()
    assert summary.weights_sha256 in report
    assert charts(report) == [
        "Accuracy against energy",
        "What saved how much",
        "Learning",
        "Classes: smb-int8 on emulator",
        "Modelled energy by layer",
    ]


def test_summary_has_every_promised_key(undisturbed):
    _, summary = undisturbed
    payload = json.loads(summary.to_json())
    assert set(payload) >= {
        "preset", "method", "device", "seed", "test_accuracy", "steps_run", "steps_dropped", "blocks_run",
        "blocks_skipped", "psg_predicted_fraction", "weights_sha256", "state_sha256", "macs", "cycles",
        "bytes_moved", "energy_modelled_j", "energy_measured_j", "energy_simulated_j", "energy_source",
        "wall_s"}  # fmt: skip
    assert (summary.steps_run, summary.steps_dropped, summary.blocks_run) == (6, 0, 6 * 8 * 4)
    assert summary.energy_measured_j is None


def test_macs_are_those_of_training_and_test(undisturbed):
    _, summary = undisturbed
    stem, body = 64 * 9 * 16, 4 * 64 * 9 * 256 + 16 * 9 * (16 * 32 + 3 * 32 * 32)
    assert summary.macs == 6 * 8 * (2 * stem + 3 * body) + 360 * (stem + body)


def test_the_same_seed_gives_the_same_bits(undisturbed, tmp_path):
    again = run_training(CONFIG, out=tmp_path / "again")
    other = run_training(CONFIG.changed(seed=8), out=tmp_path / "other")
    summary = undisturbed[1]
    assert (again.weights_sha256, again.state_sha256) == (summary.weights_sha256, summary.state_sha256)
    assert other.weights_sha256 != summary.weights_sha256


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_stopped_run_goes_on_to_the_same_state(undisturbed, tmp_path, step):
    with pytest.raises(Interrupted) as stopped:
        run_training(CONFIG, out=tmp_path, watch=stop_after(step))
    assert str(stopped.value) == (
        f"stopped after step {step} of 6, saved; "
        f"go on with: e2train train {tmp_path}/config.toml --out {tmp_path} --resume"
    )
    assert not (tmp_path / "summary.json").exists()
    resumed = run_training(CONFIG, out=tmp_path, resume=True)
    out, summary = undisturbed
    assert resumed.weights_sha256 == summary.weights_sha256
    assert resumed.state_sha256 == summary.state_sha256
    assert resumed.macs == summary.macs
    assert rows_of(tmp_path) == rows_of(out)


@pytest.fixture(scope="module")
def undisturbed_with_savings(tmp_path_factory):
    out = tmp_path_factory.mktemp("savings")
    return out, run_training(CONFIG.changed(method="e2train", smd=0.0, test_images=16), out=out)


@pytest.mark.parametrize(
    ("signal_number", "step_calls"),
    [(signal.SIGINT, 2), (signal.SIGTERM, 6), (signal.SIGINT, 9)],
    ids=["Ctrl-C in forward", "SIGTERM in backward", "Ctrl-C late in backward"],
)
def test_a_step_stopped_within_a_call_is_taken_back(
    undisturbed_with_savings, monkeypatch, tmp_path, signal_number, step_calls
):
    """The step's statistics, running maxima and counts are as if it had not begun."""
    out, whole = undisturbed_with_savings
    config = CONFIG.changed(method="e2train", smd=0.0, test_images=16)
    compute, calls = Emulator.compute, []

    def stopped_compute(self, call):
        calls.append(call.mode)
        if len(calls) == step_calls:
            signal.raise_signal(signal_number)
        return compute(self, call)

    def watch(row):
        if row.step == 3:
            calls.clear()
            monkeypatch.setattr(Emulator, "compute", stopped_compute)

    with pytest.raises(Interrupted, match=r"^stopped after step 3 of 6, saved; go on with: "):
        run_training(config, out=tmp_path, watch=watch)
    assert len(calls) == step_calls
    monkeypatch.undo()
    resumed = run_training(config, out=tmp_path, resume=True)
    assert (resumed.state_sha256, resumed.weights_sha256) == (whole.state_sha256, whole.weights_sha256)
    assert (resumed.macs, resumed.blocks_run) == (whole.macs, whole.blocks_run)
    assert rows_of(tmp_path) == rows_of(out)


def test_a_test_stopped_within_a_call_is_done_again(undisturbed, monkeypatch, tmp_path):
    whole, compute = undisturbed[1], Emulator.compute

    def stopped_compute(self, call):
        signal.raise_signal(signal.SIGINT)
        return compute(self, call)

    def watch(row):
        if row.step == row.steps:
            monkeypatch.setattr(Emulator, "compute", stopped_compute)

    with pytest.raises(Interrupted, match=r"^stopped after step 6 of 6, saved; "):
        run_training(CONFIG, out=tmp_path, watch=watch)
    monkeypatch.undo()
    resumed = run_training(CONFIG, out=tmp_path, resume=True)
    assert (resumed.state_sha256, resumed.macs) == (whole.state_sha256, whole.macs)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "sd"},
        {"method": "e2train", "psg_mode": "predict"},
        {"method": "e2train", "psg_mode": "resolve"},
        {"method": "e2train", "gradient_bits": 8, "psg_g_bits": 6},
    ],
    ids=str,
)
def test_a_run_with_savings_goes_on_to_the_same_state(tmp_path, settings):
    config = CONFIG.changed(steps=20, skip=0.4, swa_first=0.3, **settings)
    whole = run_training(config, out=tmp_path / "whole")
    executed = [row["step"] for row in rows_of(tmp_path / "whole")]
    with pytest.raises(Interrupted):
        run_training(config, out=tmp_path / "cut", watch=stop_after(executed[len(executed) // 2]))
    resumed = run_training(config, out=tmp_path / "cut", resume=True)
    assert resumed.state_sha256 == whole.state_sha256
    assert resumed.weights_sha256 == whole.weights_sha256
    assert rows_of(tmp_path / "cut") == rows_of(tmp_path / "whole")
    counted = ("macs", "steps_run", "steps_dropped", "blocks_run", "blocks_skipped", "psg_predicted_fraction")
    assert all(getattr(resumed, key) == getattr(whole, key) for key in counted)


def test_dropped_steps_load_no_batch(tmp_path, monkeypatch):
    loaded = []
    load = Batches.load
    monkeypatch.setattr(Batches, "load", lambda self, step: loaded.append(step) or load(self, step))
    config = CONFIG.changed(method="smd", steps=20)
    summary = run_training(config, out=tmp_path)
    kept = [step for step in range(20) if not Smd(probability=0.5, seed=7).drops(step)]
    assert loaded == kept
    assert (summary.steps_run, summary.steps_dropped) == (len(kept), 20 - len(kept))
    assert [row["step"] for row in rows_of(tmp_path)] == [step + 1 for step in kept]


def test_fewer_steps_are_the_baseline_of_dropped_ones(tmp_path):
    summary = run_training(CONFIG.changed(method="smd", steps=20, smd_mode="fewer"), out=tmp_path)
    assert (summary.steps_run, summary.steps_dropped) == (10, 0)


def test_computation_of_each_saving(tmp_path):
    """The ledger holds what ran, at the widths it ran with."""
    base, psg, resolved = (
        run_training(
            CONFIG.changed(method=method, psg_mode=mode, test_images=1), out=tmp_path / method / mode
        )
        for method, mode in (("smb-int8", "predict"), ("psg", "predict"), ("psg", "resolve"))
    )
    test = 9 * 64 * 16 + 4 * 64 * 9 * 256 + 16 * 9 * (16 * 32 + 3 * 32 * 32)
    norms = 1 + 16 * 8  # test image, and the batches that the averaged weights' statistics are taken from
    stem = 9 * 64 * 16
    train = 6 * 8 * test
    forward, backward = 64 / 1024, 128 / 1024
    assert base.computation == train * (forward + 2 * backward) - 6 * 8 * stem * backward + test * forward
    narrow = 40 / 1024
    assert psg.computation == (
        train * (forward + backward + narrow) - 6 * 8 * stem * backward + norms * test * forward
    )
    assert resolved.computation == psg.computation + train * backward
    assert 0 < resolved.psg_predicted_fraction < psg.psg_predicted_fraction <= 1


def test_what_was_logged_after_the_checkpoint_is_forgotten(undisturbed, tmp_path):
    with pytest.raises(Interrupted):
        run_training(CONFIG, out=tmp_path, watch=stop_after(2))
    with (tmp_path / "metrics.jsonl").open("a") as file:  # as a power cut after step 3 would leave it
        file.write(json.dumps(rows_of(tmp_path)[-1] | {"step": 3}) + '\n{"step": 4, "lo')
    run_training(CONFIG, out=tmp_path, resume=True)
    assert rows_of(tmp_path) == rows_of(undisturbed[0])


def test_ctrl_c_acts_as_before_once_a_run_is_over(tmp_path):
    def handler(number, frame):
        raise AssertionError(number)

    before = signal.signal(signal.SIGINT, handler)
    try:
        run_training(CONFIG.changed(steps=1), out=tmp_path)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_torch_is_left_as_it_was(tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run_training(CONFIG.changed(steps=1), out=tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_float_baseline_runs_on_the_host(tmp_path):
    summary = run_training(CONFIG.changed(method="smb-fp32"), out=tmp_path)
    assert (summary.device, summary.macs, summary.cycles) == ("host", None, None)
    stem, body = 64 * 9 * 16, 4 * 64 * 9 * 256 + 16 * 9 * (16 * 32 + 3 * 32 * 32)
    assert summary.host_macs == 6 * 8 * (2 * stem + 3 * body) + 360 * (stem + body)
    assert summary.computation == summary.host_macs
    assert "forward (host)" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("method", ["smb-fp32", "e2train"])
def test_a_run_with_validation_leaves_the_test_set_alone(tmp_path, monkeypatch, method):
    split = digits_split()
    seen = {"train": set(), "test": set()}

    def take(self, indices):
        seen["train" if self is split.train else "test"].update(indices.tolist())
        return arrays_take(self, indices)

    arrays_take = Arrays.take
    monkeypatch.setattr(Arrays, "take", take)
    monkeypatch.setattr("e2train.train.run.load_split", lambda config: hold_out(split, 0.25, seed=7))
    config = CONFIG.changed(method=method, validation=0.25, test_images=40, steps=3)
    summary = run_training(config, out=tmp_path)
    assert summary.test_accuracy is None
    assert summary.validation_accuracy * 40 == round(summary.validation_accuracy * 40)
    assert (summary.tested, summary.accuracy) == ("validation", summary.validation_accuracy)
    assert seen["test"] == set()
    record = read_run(tmp_path)
    assert record.label.endswith(", validation")
    assert "<th>validation<br>accuracy</th>" in (tmp_path / "report.html").read_text()


def test_a_meter_that_is_not_there_costs_no_earlier_run(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(EnergyError):
        run_training(CONFIG.changed(meter="hwmon:nothing"), out=tmp_path / "run", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(
    ("method", "skip", "most"), [("sd", 0.6, 50), ("slu", 0.8, 75), ("e2train", 0.8, 75)]
)
def test_a_skip_that_cannot_be_reached_is_refused(tmp_path, method, skip, most):
    message = (
        rf"^{method} cannot skip {skip:.1%} of the blocks of digits, only up to {most}.0%; use a smaller"
    )
    with pytest.raises(TrainError, match=message):
        run_training(CONFIG.changed(method=method, skip=skip), out=tmp_path)


def test_a_run_without_a_step_is_refused(tmp_path):
    config = CONFIG.changed(method="smd", smd=0.99, steps=3)
    with pytest.raises(TrainError) as error:
        run_training(config, out=tmp_path)
    assert str(error.value) == (
        f"smd 0.99 with seed {config.seed} drops all of 3 steps; use more --steps, another --seed or a "
        "smaller smd"
    )


def test_a_batch_of_more_images_than_there_are_is_said(tmp_path):
    whole = CONFIG.changed(method="smb-fp32", steps=1, batch=1437, test_images=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        summary = run_training(whole, out=tmp_path / "whole")
    text = "^batch 1438: there are 1437 training images, and each step takes all$"
    with pytest.warns(DataWarning, match=text):
        assert run_training(whole.changed(batch=1438), out=tmp_path / "more") is not None
    assert summary is not None


def test_a_finished_run_is_neither_replaced_unasked_nor_resumed(undisturbed):
    out, _ = undisturbed
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(TrainError) as error:
        run_training(CONFIG.changed(seed=9), out=out)
    assert str(error.value) == (
        f"{out} holds a finished run; choose another folder with --out, or replace it with --overwrite"
    )
    for device in ("emulator", "csim"):
        with pytest.raises(TrainError) as error:
            run_training(CONFIG.changed(device=device), out=out, resume=True)
        assert str(error.value) == (
            f"{out} holds a finished run, so there is nothing to resume; test it again with e2train "
            "evaluate, or train again with --overwrite"
        )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_unfinished_run_is_not_overwritten_unasked(tmp_path):
    with pytest.raises(Interrupted):
        run_training(CONFIG, out=tmp_path, watch=stop_after(2))
    saved = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(TrainError) as error:
        run_training(CONFIG, out=tmp_path)
    assert str(error.value) == f"{tmp_path} holds an unfinished run; go on with --resume, or use --overwrite"
    with pytest.raises(TrainError) as error:
        run_training(CONFIG, out=tmp_path, resume=True, overwrite=True)
    assert str(error.value) == (
        "--resume goes on with the run in a folder, --overwrite discards it; give one of them"
    )
    assert (tmp_path / "checkpoint.pt").read_bytes() == saved
    assert run_training(CONFIG, out=tmp_path, overwrite=True).steps_run == 6
