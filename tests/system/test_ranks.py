# SPDX-License-Identifier: Apache-2.0
"""Training over two ranks that torchrun starts."""

import json
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT

import pytest
from e2train.train import PRESETS, run_training

TORCHRUN = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2", "-m", "e2train")
SHORT = ("train", "digits", "--steps", "8", "--batch", "12", "--seed", "7")
LESS = ("--set", "skip=0.4", "--set", "test_images=30")


def start(*command, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [*TORCHRUN, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def train(*command) -> dict:
    run = start(*command, "--json")
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    return json.loads(out)  # one line: the first rank's


@pytest.mark.slow
@pytest.mark.parametrize("combine", ["sum", "vote"])
def test_two_ranks_learn_digits(tmp_path, combine):
    payload = train("train", "digits", "--set", f"combine={combine}", "--out", tmp_path)
    assert payload["ranks"] == 2
    assert payload["test_accuracy"] > 0.93
    assert {file.name for file in tmp_path.iterdir()} == {
        *("config.toml", "metrics.jsonl", "checkpoint.pt", "ledger.json", "summary.json", "report.html"),
        *("model.pt", "evaluation.json"),
    }


@pytest.mark.parametrize(
    "setting",
    [
        "combine=sum",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("execution=offload", "combine=vote")),
    ],
)
def test_ranks_count_what_one_would(tmp_path, setting):
    """The same shares of the same batches: as many steps, blocks and MACs, whatever the weights."""
    options = (*SHORT, "--method", "psg", "--set", setting, *LESS)
    two = train(*options, "--out", tmp_path / "two")
    config = PRESETS["digits"].changed(method="psg", steps=8, batch=12, seed=7).set([setting, *LESS[1::2]])
    one = run_training(config, out=tmp_path / "one")
    for key in ("steps_run", "steps_dropped", "blocks_run", "blocks_skipped", "macs"):
        assert getattr(one, key) == two[key], key


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["offload", "resident"])
def test_a_stopped_run_resumes_to_the_undisturbed_state(tmp_path, execution):
    options = ("train", "digits", "--steps", "30", "--batch", "12", "--seed", "3", *LESS)
    options += ("--set", f"execution={execution}")
    whole = train(*options, "--out", tmp_path / "whole")
    run = start(*options, "--out", tmp_path / "cut")
    metrics = tmp_path / "cut" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    run.send_signal(SIGINT)
    _, err = run.communicate(timeout=60)
    assert "saved; go on with: torchrun" in err
    assert not (tmp_path / "cut" / "summary.json").exists()
    resumed = train(*options, "--out", tmp_path / "cut", "--resume")
    for key in ("weights_sha256", "state_sha256", "macs"):
        assert resumed[key] == whole[key], key


def test_errors_are_one_line(tmp_path):
    run = start(*SHORT, "--device", "pynq:localhost:1", "--out", tmp_path)
    _, err = run.communicate(timeout=100)
    assert run.returncode != 0
    lines = [line for line in err.splitlines() if line.startswith("e2train: ")]
    assert set(lines) == {
        "e2train: one board per rank: there are 1 devices for 2 ranks; use --device pynq:HOST1,pynq:HOST2"
    }
