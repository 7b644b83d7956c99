# SPDX-License-Identifier: Apache-2.0
"""Weights that a run begins with: what they have learnt before, and what they lack."""

import re
import shutil
import warnings

import pytest
import torch
from e2train.train import PRESETS, run_training
from e2train.train.data.dataset import DataWarning
from e2train.train.files import read_sealed, write_sealed
from e2train.train.trained import load_trained

CONFIG = PRESETS["digits"].changed(method="smb-int8", steps=2, batch=8, seed=3, test_images=40)


def test_what_earlier_generations_have_learnt_is_said(tmp_path):
    whole = CONFIG.changed(method="smb-fp32", steps=1)
    run_training(whole, out=tmp_path / "first")
    held = whole.changed(validation=0.1)
    first = re.escape(str(tmp_path / "first"))
    for name, before in (("second", "first"), ("third", "second")):
        with pytest.warns(DataWarning, match=f"^{first} has learnt from images that are held out now"):
            run_training(held.changed(init=str(tmp_path / before)), out=tmp_path / name)
    shutil.rmtree(tmp_path / "first")
    with pytest.warns(DataWarning, match=f"second began with weights that are not at {first} any more: they"):
        run_training(held.changed(init=str(tmp_path / "second")), out=tmp_path / "fourth")
    run_training(held, out=tmp_path / "clean")
    run_training(held.changed(init=str(tmp_path / "clean")), out=tmp_path / "child")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        run_training(held.changed(init=str(tmp_path / "child")), out=tmp_path / "grandchild")


def test_from_a_checkpoint_without_classifier_it_is_new(tmp_path):
    run_training(CONFIG, out=tmp_path / "run")
    path = tmp_path / "run/checkpoint.pt"
    content = read_sealed(path, remedy="")
    model = content["state"]["model"]
    for name in [name for name in model if name.startswith("head.")]:
        del model[name]
    write_sealed(path, content)
    begun = CONFIG.changed(init=str(path), seed=7, lr=0.0)
    run_training(begun, out=tmp_path / "next")
    run_training(CONFIG.changed(seed=7, lr=0.0), out=tmp_path / "new")
    found, new = (load_trained(tmp_path / run / "model.pt").state for run in ("next", "new"))
    assert torch.equal(found["stem.0.weight"], model["stem.0.weight"])
    heads = [name for name in new if name.startswith("head.")]
    assert heads
    assert all(torch.equal(found[name], new[name]) for name in heads)
