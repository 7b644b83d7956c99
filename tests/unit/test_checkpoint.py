# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: resumed with the very bits that were saved, or refused in one line."""

import os
import re

import pytest
import torch
from e2train.runtime import Ledger
from e2train.train import PRESETS, TrainError, run_training
from e2train.train.checkpoint import load_checkpoint, save_checkpoint
from e2train.train.checks import check_state
from e2train.train.files import write_sealed
from e2train.train.run_ledger import RankLedger

CONFIG = PRESETS["digits"].changed(method="e2train", steps=4, batch=8, seed=7, swa_first=0.3, test_images=1)
ROW = {"name": "stem", "mode": "forward", "counters": {}}
PART = {"duration_s": "a", "gaps": [], "notes": []}
AGAIN = "start again with --overwrite instead of --resume"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The content of a finished run's checkpoint, but for what its file adds to it."""
    out = tmp_path_factory.mktemp("run")
    run_training(CONFIG, out=out)
    return load_checkpoint(out / "checkpoint.pt", config=CONFIG)


def refusal(out, config=CONFIG):
    with pytest.raises(TrainError) as error:
        run_training(config, out=out, resume=True)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_flipped_bit_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, config=CONFIG, state={"step": 1, "w": torch.tensor([1.0, 2.0])}, spent=[])
    good = path.read_bytes()
    assert load_checkpoint(path, config=CONFIG).state["step"] == 1

    def refused():
        try:
            load_checkpoint(path, config=CONFIG)
        except TrainError as error:
            return str(error).startswith(f"{path} is damaged")
        return False

    accepted = []
    with path.open("r+b", buffering=0) as file:
        for place, byte in enumerate(good):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), place)
                accepted += [] if refused() else [(place, bit)]
            os.pwrite(file.fileno(), bytes([byte]), place)
        assert not accepted
        assert path.read_bytes() == good
        for length in reversed(range(len(good))):
            file.truncate(length)
            assert refused()


def test_a_damaged_checkpoint_says_so(tmp_path, saved):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, config=CONFIG, state=saved.state, spent=saved.spent)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    assert refusal(tmp_path) == f"{path} is damaged: its checksum does not match; {AGAIN}"


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_file_without_a_checksum_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    assert refusal(tmp_path) == f"{path} is damaged or of an earlier version: it has no checksum; {AGAIN}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"spent": {}}, "spent must be of type list, not {}"),
        ({"more": 1}, "has unknown 'more'; the keys are: format, settings, state, state_sha256, spent"),
    ],
)
def test_a_checkpoint_with_other_entries_is_refused(tmp_path, saved, change, reason):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, config=CONFIG, state=saved.state, spent=saved.spent)
    write_sealed(path, torch.load(path, weights_only=True) | change)
    assert refusal(tmp_path) == f"{path}: {reason}; {AGAIN}"


def test_other_tools_read_a_checkpoint(tmp_path, saved):
    save_checkpoint(tmp_path / "checkpoint.pt", config=CONFIG, state=saved.state, spent=saved.spent)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert content["state_sha256"] == saved.state_sha256


FORMS = {
    "step missing": (lambda state: state.pop("step"), "step is missing"),
    "model missing": (lambda state: state.pop("model"), "model is missing"),
    "unknown": (lambda state: state.update(more=1), "more is unknown"),
    "step below 0": (lambda state: state.update(step=-5), "step is -5, not in 0..4"),
    "step beyond the end": (lambda state: state.update(step=10**9), "step is 1000000000, not in 0..4"),
    "step a text": (lambda state: state.update(step="2"), "step is of type str, not of type int"),
    "dropped": (lambda state: state.update(steps_dropped=5), "steps_dropped is 5, not in 0..4"),
    "samples": (lambda state: state.update(samples=-1), "samples is -1, not at least 0"),
    "blocks": (lambda state: state["block_runs"].pop(), "block_runs is a list of 3, not a list of 4"),
    "block": (lambda state: state.update(block_runs=[0, -1, 0, 0]), "block_runs.1 is -1, not in 0.."),
    "weight missing": (lambda state: state["model"].pop("stem.0.weight"), "model.stem.0.weight is missing"),
    "weight's shape": (
        lambda state: state["model"].update({"stem.0.weight": torch.zeros(16, 3, 3, 3)}),
        "model.stem.0.weight is a tensor (16, 3, 3, 3) of torch.float32, "
        "not a tensor (16, 1, 3, 3) of torch.float32",
    ),
    "weight's type": (
        lambda state: state["model"].update({"stem.0.weight": torch.zeros(16, 1, 3, 3).double()}),
        "model.stem.0.weight is a tensor (16, 1, 3, 3) of torch.float64, "
        "not a tensor (16, 1, 3, 3) of torch.float32",
    ),
    "momentum's shape": (
        lambda state: state["optimiser"]["state"][0].update(momentum=torch.zeros(2)),
        "optimiser.state.0.momentum is a tensor (2,) of torch.float32, not a tensor (16,) of torch.float32",
    ),
    "momentum of nothing": (
        lambda state: state["optimiser"]["state"].update({99: {}}),
        "optimiser.state.99 is unknown",
    ),
    "rate": (
        lambda state: state["optimiser"]["param_groups"][0].update(momentum=0.5),
        "optimiser.param_groups.0.momentum is 0.5, not 0.9",
    ),
    "mean missing": (
        lambda state: state["averager"]["means"].popitem(),
        "averager.means has 40 entries, count is 2",
    ),
    "means": (lambda state: state["averager"].update(means=[]), "averager.means is a list of 0"),
    "rng": (
        lambda state: state.update(rng=torch.zeros(3)),
        "rng is a tensor (3,) of torch.float32, not a tensor (5056,) of torch.uint8",
    ),
}


@pytest.mark.parametrize(("change", "reason"), FORMS.values(), ids=FORMS)
def test_a_state_of_another_form_is_refused(saved, change, reason):
    state = {key: list(value) if isinstance(value, list) else value for key, value in saved.state.items()}
    state["model"] = dict(state["model"])
    state["averager"] = {"count": state["averager"]["count"], "means": dict(state["averager"]["means"])}
    momenta, groups = (state["optimiser"][key] for key in ("state", "param_groups"))
    state["optimiser"] = {
        "state": {number: dict(entry) for number, entry in momenta.items()},
        "param_groups": [dict(group) for group in groups],
    }
    change(state)
    with pytest.raises(ValueError, match=rf"^{re.escape(reason)}") as error:
        check_state(state, saved.state, steps=CONFIG.steps)
    assert "\n" not in str(error.value)


def test_a_state_of_another_form_is_not_resumed(tmp_path, saved):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, config=CONFIG, state=saved.state | {"step": 10**9}, spent=saved.spent)
    assert refusal(tmp_path) == (f"{path} does not fit this run: step is 1000000000, not in 0..4; {AGAIN}")


@pytest.mark.parametrize(
    ("spent", "reason"),
    [
        ([], "spent is of 0 ranks, not 1"),
        ([{"rows": [], "energy": []}], "'wall_s'"),
        ([{"wall_s": "long", "rows": [], "energy": []}], "earlier_s must be a finite float, not long"),
        ([{"wall_s": 1.0, "rows": [{"name": "stem"}], "energy": []}], "'counters'"),
        (
            [{"wall_s": 1.0, "rows": [ROW | {"calls": None}], "energy": []}],
            "calls must be a finite int, not None",
        ),
        (
            [{"wall_s": 1.0, "rows": [ROW | {"counters": {"macs": -3}}], "energy": []}],
            "macs is -3, not at least 0",
        ),
        ([{"wall_s": 1.0, "rows": [], "energy": [PART]}], "duration_s must be a finite float, not a"),
    ],
)
def test_an_ill_formed_ledger_is_refused(spent, reason):
    with pytest.raises((KeyError, ValueError), match=rf"^{re.escape(reason)}$"):
        RankLedger(ledger=Ledger()).restore(spent)


def test_an_ill_formed_ledger_is_not_resumed(tmp_path, saved):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, config=CONFIG, state=saved.state, spent=[{}])
    assert refusal(tmp_path) == f"{path} does not fit this run: no entry 'wall_s'; {AGAIN}"


def test_a_state_with_another_hash_is_refused(tmp_path, saved, monkeypatch):
    monkeypatch.setattr("e2train.train.checkpoint.state_sha256", lambda state: "0" * 64)
    save_checkpoint(tmp_path / "checkpoint.pt", config=CONFIG, state=saved.state, spent=saved.spent)
    assert refusal(tmp_path) == (
        f"{tmp_path}/checkpoint.pt does not fit this run: "
        f"the restored state has another hash than the saved one; {AGAIN}"
    )


@pytest.mark.parametrize(
    ("settings", "differences"),
    [
        ({"seed": 9}, "seed 7, not 9; resume with the settings of {out}/config.toml"),
        (
            {"batch": 16, "lr": 0.25},
            "batch 8, not 16 and lr 0.1, not 0.25; resume with the settings of {out}/config.toml",
        ),
        (
            {"steps": 8},
            "steps 4, not 8; the learning rate and averaging are scheduled over all steps, so a run of "
            "another length cannot go on from it: train that from the start, with another --out",
        ),
        ({"steps": 8, "seed": 9}, "seed 7, not 9 and steps 4, not 8; resume with the settings of {out}/"),
    ],
    ids=str,
)
def test_settings_that_differ_are_named(tmp_path, saved, settings, differences):
    save_checkpoint(tmp_path / "checkpoint.pt", config=CONFIG, state=saved.state, spent=saved.spent)
    shown = refusal(tmp_path, CONFIG.changed(**settings))
    assert shown.startswith(f"{tmp_path}/checkpoint.pt was saved with {differences.format(out=tmp_path)}")
    assert re.search(r"config\.toml$|--out$", shown)


def test_a_run_of_ranks_is_resumed_by_torchrun(tmp_path, saved):
    save_checkpoint(
        tmp_path / "checkpoint.pt", config=CONFIG.changed(ranks=2), state=saved.state, spent=saved.spent
    )
    assert refusal(tmp_path, CONFIG) == (
        f"{tmp_path}/checkpoint.pt was saved by 2 ranks, and there are 1; resume with "
        "torchrun --nproc-per-node 2 -m e2train train ..."
    )
