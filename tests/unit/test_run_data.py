# SPDX-License-Identifier: Apache-2.0
"""A run goes on with the images that it began with, and is used where it was not trained."""

import pickle
import signal
import warnings
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
from e2train.train.data.dataset import DataWarning
from e2train.train.resources import load_split
from PIL import Image

CONFIG = PRESETS["cifar10-resnet8"].changed(method="smb-int8", steps=3, batch=4, threads=1, test_images=4)
AGAIN = "get the data set again"


def write_cifar(root: Path, seed: int, *, classes: int = 10) -> str:
    """Random images in the layout of an archive of CIFAR."""
    rng = np.random.default_rng(seed)
    folder = root / f"data{seed}" / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True)
    names = (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch") if classes == 10 else ("train", "test")
    key = "labels" if classes == 10 else "fine_labels"
    for name in names:
        batch = {"data": rng.integers(0, 256, (4, 3072), np.uint8), key: rng.integers(0, 10, 4).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch))
    return str(folder.parent)


@pytest.mark.parametrize(("classes", "train"), [(10, "data_batch_*"), (100, "train")])
def test_missing_images_are_named_and_empty_parts_refused(tmp_path, classes, train):
    folder = Path(write_cifar(tmp_path, 1, classes=classes))
    config = PRESETS[f"cifar{classes}-resnet8"].changed(data=str(folder))
    with pytest.warns(DataWarning) as seen:
        load_split(config)
    (place,) = folder.iterdir()
    hint = f"for all of them get it with e2train data fetch cifar{classes} into an empty folder"
    assert [str(warning.message) for warning in seen] == [
        f"{place} holds {20 if classes == 10 else 4} training images, CIFAR-{classes} has 50,000; {hint}",
        f"{place} holds 4 test images, CIFAR-{classes} has 10,000; {hint}",
    ]
    labels = "labels" if classes == 10 else "fine_labels"
    empty = pickle.dumps({"data": np.zeros((0, 3072), np.uint8), labels: []})
    for part, files in (("test", "test*"), ("training", train)):
        for path in place.glob(files):
            path.write_bytes(empty)
        for validation in (0.0, 0.5) if part == "test" else ():
            assert refusal(config.changed(validation=validation)) == f"{folder} has no test images; {AGAIN}"
    assert refusal(config) == f"{folder} has no training images; {AGAIN}"


def refusal(config):
    """Why images are refused, without a warning before it."""
    with warnings.catch_warnings(record=True) as seen, pytest.raises(DataError) as error:
        load_split(config)
    assert seen == []
    return str(error.value)


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
