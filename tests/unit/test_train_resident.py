# SPDX-License-Identifier: Apache-2.0
"""Training with resident tensors: the same bits on every device, after a stop, and what is refused."""

from __future__ import annotations

import signal
from math import prod

import pytest
from e2train.devices import DeviceError, open_resident
from e2train.devices.emulator.resident import TorchResident
from e2train.devices.memory import SpecResident
from e2train.devices.native import NativeResident
from e2train.numerics.psg import SIGN_SCALES
from e2train.train import PRESETS, Interrupted, TrainError, run_training

CONFIG = PRESETS["digits"].changed(
    execution="resident", steps=4, batch=4, seed=7, smd=0.0, skip=0.6, test_images=4, swa_first=0.6,
    gate_weight=100.0, warmup=0.0,  # so that gates close within a few steps
)  # fmt: skip
DEVICES = {
    "native": lambda threads: NativeResident(threads=1),
    "native, 2 threads": lambda threads: NativeResident(threads=2),
    "torch": lambda threads: TorchResident(),
    "csim": lambda threads: open_resident("csim"),
}
RUNS = {
    "smb-int8": {"method": "smb-int8"},
    "slu": {"method": "slu"},
    "e2train": {"method": "e2train", "gradient_rounding": "dithered"},
    "partial backward passes": {"method": "e2train", "stem_updates": 0.1},
    "8-bit block gradients": {
        "method": "e2train",
        "gradient_rounding": "dithered",
        "result_bits": 8,
        "input_gradient_bits": 16,
        "block_gradient_bits": 8,
    },
}
LONG_RUNS = {
    "16-bit gradients": {"method": "smb-int8", "gradient_bits": 16},
    "8-bit results": {"method": "smb-int8", "result_bits": 8},
    "stochastic depth": {"method": "sd", "skip": 0.4},
    "all savings": {"method": "e2train", "smd": 0.4, "steps": 8},
    "resolve": {"method": "e2train", "psg_mode": "resolve"},
    "sparsify": {"method": "e2train", "psg_mode": "sparsify"},
    "signs of 16-bit gradients": {"method": "e2train", "gradient_bits": 16},
    "signs with 8-bit results": {"method": "e2train", "result_bits": 8},
    "8-bit input gradients alone": {"method": "smb-int8", "input_gradient_bits": 8},
    "8-bit block gradients to nearest": {"method": "e2train", "block_gradient_bits": 8},
}


def use(monkeypatch, make) -> None:
    monkeypatch.setattr(
        "e2train.train.resources.open_resident", lambda spec, *, threads, **options: make(threads)
    )


@pytest.mark.parametrize(
    "options",
    [
        *(pytest.param(options, id=name) for name, options in RUNS.items()),
        *(pytest.param(options, id=name, marks=pytest.mark.slow) for name, options in LONG_RUNS.items()),
    ],
)
def test_every_device_trains_to_the_bits_of_the_spec(monkeypatch, tmp_path, options):
    config = CONFIG.changed(**options)
    use(monkeypatch, lambda threads: SpecResident())
    want = run_training(config, out=tmp_path / "spec")
    assert (want.blocks_skipped > 0) == (config.method != "smb-int8")
    for name, make in DEVICES.items():
        use(monkeypatch, make)
        got = run_training(config, out=tmp_path / name)
        for key in ("state_sha256", "weights_sha256", "macs", "blocks_run", "saturations", "test_accuracy"):
            assert getattr(got, key) == getattr(want, key), (name, key)


def stop_after(step):
    """A watcher that presses Ctrl-C."""

    def watch(row):
        if row.step == step:
            signal.raise_signal(signal.SIGINT)

    return watch


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run_training(CONFIG.changed(method="e2train"), out=tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("step", [1, 4], ids=["in the middle", "before averaging"])
def test_a_stopped_run_goes_on_to_the_same_state(undisturbed, tmp_path, step):
    config = CONFIG.changed(method="e2train")
    with pytest.raises(Interrupted, match=rf"^stopped after step {step} of 4, saved; go on with: "):
        run_training(config, out=tmp_path, watch=stop_after(step))
    resumed = run_training(config, out=tmp_path, resume=True)
    for key in ("state_sha256", "weights_sha256", "macs", "blocks_run", "saturations", "host_bytes_per_step"):
        assert getattr(resumed, key) == getattr(undisturbed, key), key


@pytest.mark.parametrize("first", ["resident", "offload"])
def test_a_checkpoint_of_the_other_execution_is_refused_in_one_line(tmp_path, first):
    other = {"resident": "offload", "offload": "resident"}[first]
    config = CONFIG.changed(method="smb-int8", execution=first)
    with pytest.raises(Interrupted):
        run_training(config, out=tmp_path, watch=stop_after(2))
    with pytest.raises(TrainError) as refused:
        run_training(config.changed(execution=other), out=tmp_path, resume=True)
    text = str(refused.value)
    assert "\n" not in text
    assert str(tmp_path / "checkpoint.pt") in text
    assert "execution" in text


@pytest.mark.parametrize("board", ["zcu104", "kv260"])
def test_the_engines_of_every_board_take_resident_runs(board):
    for device in ("emulator", "csim", "rtl", "spec", "pynq:host", "agent:host"):
        assert CONFIG.changed(device=device, board=board).resident


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"gradient_bits": 12},
            "gradient_bits must be 8 or 16 in resident runs, not 12; other widths need "
            "--set execution=offload",
        ),
        ({"result_bits": 12}, "result_bits must be 8 or 16, not 12"),
        ({"input_gradient_bits": 4}, "input_gradient_bits must be 0, 8 or 16, not 4"),
        ({"block_gradient_bits": 4}, "block_gradient_bits must be 8 or 16, not 4"),
        ({"scale_decay": 1.5}, "scale_decay must be in 0..1, not 1.5"),
        ({"gradient_range": 0.0}, "gradient_range must be in 0.015625..1, not 0.0"),
        ({"gradient_rounding": "up"}, "no gradient_rounding 'up'; there are: nearest, dithered"),
        ({"execution": "elsewhere"}, "no execution 'elsewhere'; there are: offload, resident"),
    ],
)
def test_settings_that_resident_runs_do_not_take(options, text):
    with pytest.raises(TrainError) as refused:
        CONFIG.changed(**options)
    assert str(refused.value) == text


def test_without_a_compiler_torch_takes_over_with_the_same_bits(monkeypatch, tmp_path, undisturbed):
    def no_compiler(**options):
        raise DeviceError("cannot build the native emulator: there is no compiler")

    monkeypatch.setattr("e2train.devices.native.NativeResident", no_compiler)
    with pytest.warns(UserWarning, match=r"^torch emulates the device, slowly: cannot build") as warned:
        summary = run_training(CONFIG.changed(method="e2train"), out=tmp_path)
    assert len([each for each in warned if "torch emulates" in str(each.message)]) == 1
    assert summary.state_sha256 == undisturbed.state_sha256


def test_factors_of_modelled_energy_multiply_to_the_whole(tmp_path):
    config = CONFIG.changed(method="e2train", steps=16, smd=0.5)
    summary = run_training(config, out=tmp_path)
    factors = summary.energy_factors
    assert prod(factors.values()) == pytest.approx(summary.energy_of_smb_fp32, rel=1e-12)
    assert factors["widths"] < 0.5
    # Work for each sample and for each step, such as weights, both shrink by the steps dropped.
    assert factors["smd"] == pytest.approx(summary.steps_run / 16, rel=1e-9)
    assert factors["slu"] < 0.95
    assert factors["psg"] < 1


def test_a_run_that_saves_nothing_has_factors_of_one_but_for_trial_runs(tmp_path):
    summary = run_training(CONFIG.changed(method="smb-int8", steps=16), out=tmp_path)
    widths, *rest, trials = summary.energy_factors.values()
    assert rest == pytest.approx([1.0] * len(rest), rel=1e-12)
    assert 1 < trials < 1 + 1.2 / 16  # of one step in 16
    assert summary.energy_of_smb_int8 == pytest.approx(trials, rel=1e-12)
    assert summary.energy_of_smb_fp32 == pytest.approx(widths * trials, rel=1e-12)


@pytest.mark.slow
def test_a_resident_run_learns(tmp_path):
    config = PRESETS["digits"].changed(execution="resident", method="smb-int8", seed=1)
    assert run_training(config, out=tmp_path).test_accuracy > 0.93


def test_settings_of_gradients_count_where_they_change_something():
    plain = CONFIG.changed(method="psg").hash
    assert CONFIG.changed(method="psg", gradient_range=0.5).hash != plain
    for setting in ("block_gradient_bits", "input_gradient_bits"):
        assert CONFIG.changed(method="psg", **{setting: 8}).hash != plain
        assert CONFIG.changed(method="psg", **{setting: 16}).hash == plain
        in_float32 = CONFIG.changed(method="smb-fp32")
        assert in_float32.changed(**{setting: 8}).hash == in_float32.hash
    dithered = CONFIG.changed(gradient_rounding="dithered")
    assert dithered.changed(method="psg").hash != plain
    assert dithered.changed(method="psg", gradient_bits=16, block_gradient_bits=8).dithered
    for other in ({"method": "smb-fp32"}, {"gradient_bits": 16}, {"execution": "offload"}):
        assert dithered.changed(**other).hash == CONFIG.changed(**other).hash
    scales = {CONFIG.changed(method="psg", sign_scale=scale).hash for scale in SIGN_SCALES}
    assert len(scales) == 3
    assert plain in scales
    offload = CONFIG.changed(method="psg", execution="offload")
    assert offload.changed(gradient_range=0.5).hash == offload.hash
    assert not {"gradient_range", "sign_scale"} & {*CONFIG.determining}
    for scale in ("mean", "each"):
        scaled = CONFIG.changed(method="psg", sign_scale=scale)
        assert not {"sign_lr", "sign_weight_decay"} & {*scaled.determining}
