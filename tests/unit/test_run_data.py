# SPDX-License-Identifier: Apache-2.0
"""A run goes on with the images that it began with, and is used where it was not trained."""

import pickle
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from e2train.train import (
    PRESETS,
    DataError,
    Interrupted,
    TrainError,
    evaluate_run,
    predict,
    read_config,
    read_trained,
    run_training,
)
from PIL import Image

CONFIG = PRESETS["cifar10-resnet8"].changed(method="smb-int8", steps=3, batch=4, threads=1, test_images=4)


def write_cifar(root: Path, seed: int) -> str:
    """Random images in the layout of CIFAR-10's archive."""
    rng = np.random.default_rng(seed)
    folder = root / f"data{seed}" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        batch = {"data": rng.integers(0, 256, (4, 3072), np.uint8), "labels": rng.integers(0, 10, 4).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    return str(folder.parent)


def stop_at_once(row):
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def stopped(tmp_path):
    """A run that was stopped, on one of two data sets."""
    one, other = write_cifar(tmp_path, 1), write_cifar(tmp_path, 2)
    config, out = CONFIG.changed(data=one), tmp_path / "run"
    with pytest.raises(Interrupted):
        run_training(config, out=out, watch=stop_at_once)
    assert (out / "checkpoint.pt").exists()
    return config, other, out


def test_a_run_does_not_go_on_with_other_images(stopped):
    config, other, out = stopped
    assert len(read_config(out / "config.toml").data_sha256) == 64
    with pytest.raises(TrainError, match=rf"^{other} holds images with SHA-256 "):
        run_training(config.changed(data=other), out=out, resume=True)
    copied = Path(other).rename(Path(other).with_name("copied"))
    for path in Path(config.data).glob("*/*"):
        (copied / path.relative_to(config.data)).write_bytes(path.read_bytes())
    moved = config.changed(data=str(copied), log="tensorboard")
    assert run_training(moved, out=out, resume=True).steps_run == 3
    went_on = read_config(out / "config.toml")  # for what is done with the run next
    assert (went_on.data, went_on.log, went_on.hash) == (str(copied), "tensorboard", config.hash)


def test_a_run_is_not_tested_on_other_images_in_place_of_its_own(stopped):
    config, other, out = stopped
    run_training(config, out=out, resume=True)
    evaluate_run(out, data=None)
    for path in Path(other).glob("*/*"):
        (Path(config.data) / path.relative_to(other)).write_bytes(path.read_bytes())
    with pytest.raises(TrainError, match=r" holds other images than the run has learnt from, "):
        evaluate_run(out, data=None)
    evaluate_run(out, data=Path(other))
    evaluate_run(out, data=Path(other))  # the report takes what was tested since


def test_another_copy_is_tested_whole(tmp_path):
    config = CONFIG.changed(data=write_cifar(tmp_path, 1), validation=0.5)
    run_training(config, out=tmp_path / "run")
    found = evaluate_run(tmp_path / "run", data=Path(config.data))
    assert (found.tested, found.images) == ("test", 4)
    own = evaluate_run(tmp_path / "run")
    assert (own.tested, own.images) == ("validation", 4)  # test_images of 10


def test_digits_take_no_images_of_ones_own(tmp_path):
    with pytest.raises(DataError, match=r"^digits come with scikit-learn, and --data would not be read; "):
        run_training(PRESETS["digits"].changed(data=str(tmp_path)), out=tmp_path / "run")


def test_a_model_that_was_trained_on_a_gpu_is_used_where_there_is_none(tmp_path, monkeypatch):
    run_training(PRESETS["digits"].changed(method="smb-int8", steps=1, batch=8, test_images=8), out=tmp_path)
    trained = read_trained(tmp_path)
    image = tmp_path / "image.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(image)
    want = predict(trained, [image])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert predict(replace(trained, config=trained.config.changed(host="cuda")), [image]) == want
