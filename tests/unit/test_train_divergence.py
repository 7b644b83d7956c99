# SPDX-License-Identifier: Apache-2.0
"""Training that diverges ends with an error, and the last good checkpoint stands."""

import math

import pytest
from e2train.nn import DivergenceError
from e2train.train import PRESETS, run_training
from e2train.train.optimiser import SignSgd

CONFIG = PRESETS["digits"].changed(method="smb-int8", steps=6, batch=8, seed=7)


def test_diverging_training_is_an_error(tmp_path):
    with pytest.raises(DivergenceError, match=r"^step \d+: .*; use a smaller --lr$"):
        run_training(CONFIG.changed(lr=1e30, steps=20), out=tmp_path)


def test_a_gradient_that_is_not_finite_is_an_error(tmp_path, monkeypatch):
    def overflow(model, group):
        model.stem[0].weight.grad[0, 0, 0, 0] = math.inf

    monkeypatch.setattr("e2train.train.loop.combine_gradients", overflow)
    with pytest.raises(DivergenceError) as error:
        run_training(CONFIG.changed(method="psg"), out=tmp_path)
    assert str(error.value) == "step 1: the gradient of stem.0.weight is not finite; use a smaller --lr"


@pytest.mark.parametrize(
    ("execution", "found"),
    [
        ("offload", "blocks.0.branch.0: the input holds nan"),
        ("resident", "x0 (stem.0): batch norm's coefficients are not finite"),
    ],
)
def test_an_input_that_is_not_finite_has_diverged_as_the_images_are_finite(
    tmp_path, monkeypatch, execution, found
):
    def spoil(model, group):
        model.stem[1].weight.data.fill_(math.inf)

    monkeypatch.setattr("e2train.train.loop.average_statistics", spoil)
    with pytest.raises(DivergenceError) as error:
        run_training(CONFIG.changed(execution=execution), out=tmp_path)
    assert str(error.value) == f"step 2: {found}: training diverged; use a smaller --lr"


def test_the_last_good_checkpoint_outlives_a_divergence(tmp_path, monkeypatch):
    steps, saved = [], []
    move = SignSgd.step

    def step(self):
        move(self)
        steps.append(1)
        if len(steps) == CONFIG.steps:
            self.param_groups[0]["params"][0].data.fill_(math.inf)

    def watch(row):
        path = tmp_path / "checkpoint.pt"
        saved.append(path.read_bytes() if path.exists() else b"")

    monkeypatch.setattr(SignSgd, "step", step)
    monkeypatch.setattr("e2train.train.run._SAVE_EVERY_S", -1.0)  # after every step
    with pytest.raises(
        DivergenceError, match=rf"^step {CONFIG.steps}: .* is not finite; use a smaller --lr$"
    ):
        run_training(CONFIG, out=tmp_path, watch=watch)
    assert saved[-1]
    assert (tmp_path / "checkpoint.pt").read_bytes() == saved[-1]
