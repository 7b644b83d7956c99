# SPDX-License-Identifier: Apache-2.0
"""Training from the command line: the same bits on every device, and over a stop."""

import json
import signal
import subprocess
import sys
import time

import pytest
from e2train.train import PRESETS, Interrupted, run_training

TRAIN = (sys.executable, "-m", "e2train", "train")
SHORT = PRESETS["digits"].changed(execution="offload", steps=3, batch=10, seed=7, skip=0.4, test_images=16)
VARIANTS = {
    "smb-int8": {"method": "smb-int8"},
    **{f"e2train, {mode}": {"psg_mode": mode} for mode in ("predict", "sparsify", "resolve")},
    "e2train, 8-bit gradients": {"gradient_bits": 8, "psg_g_bits": 8},
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request):
    return SHORT.changed(**request.param)


@pytest.fixture(scope="module")
def emulated(variant, tmp_path_factory):
    return run_training(variant, out=tmp_path_factory.mktemp("emulator"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("device", ["spec", "csim", "rtl"])
def test_devices_train_to_the_same_bits(variant, emulated, tmp_path, device):
    got = run_training(variant.changed(device=device), out=tmp_path)
    assert (got.weights_sha256, got.state_sha256) == (emulated.weights_sha256, emulated.state_sha256)
    assert (got.test_accuracy, got.macs) == (emulated.test_accuracy, emulated.macs)
    assert (got.cycles is not None) == (device == "rtl")


def test_a_run_may_go_on_on_another_device(variant, emulated, tmp_path):
    def stop(row):
        if row.step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        run_training(variant, out=tmp_path, watch=stop)
    moved = run_training(variant.changed(device="csim"), out=tmp_path, resume=True)
    assert moved.state_sha256 == emulated.state_sha256


@pytest.mark.parametrize(
    ("method", "accuracy"),
    [("smb-int8", 0.97), pytest.param("psg", 0.97, marks=pytest.mark.slow), ("e2train", 0.96)],
)
def test_digits_are_learned(tmp_path, method, accuracy):
    summary = run_training(PRESETS["digits"].changed(method=method), out=tmp_path)
    assert summary.test_accuracy >= accuracy


def test_a_killed_process_resumes_to_the_undisturbed_state(tmp_path):
    options = ("--steps", "20", "--seed", "3", "--set", "test_images=30", "--json")
    whole = run_training(PRESETS["digits"].changed(steps=20, seed=3, test_images=30), out=tmp_path / "whole")
    run = subprocess.Popen([*TRAIN, "digits", "--out", tmp_path / "cut", *options], stderr=subprocess.PIPE)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()):
        assert time.monotonic() < deadline, "the run logged no step within 60 s"
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    message = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 130
    assert message.startswith("e2train: stopped after step ")
    assert message.count("\n") == 1
    resume = message.strip().split("e2train train ")[1].split()
    resumed = subprocess.run([*TRAIN, *resume, "--json"], capture_output=True, check=True)
    assert json.loads(resumed.stdout)["state_sha256"] == whole.state_sha256
