# SPDX-License-Identifier: Apache-2.0
"""Trained models in use: tested on images, and asked for the classes of single ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from e2train.energy import load_costs
from e2train.nn import Group, ResidualNet, share
from e2train.train.data import Dataset, Split, labelled_images, read_pixels
from e2train.train.data.dataset import warn, warn_of_colours, warn_of_squares
from e2train.train.data.image_folder import scan_image
from e2train.train.data.own_data import check_classes, has_test_part, renumbered
from e2train.train.errors import TrainError
from e2train.train.evaluation import Evaluation, classify
from e2train.train.files import write_atomically
from e2train.train.finished_run import read_run
from e2train.train.folder import RunFolder
from e2train.train.report import render_report
from e2train.train.resources import load_split, open_context, torch_threads
from e2train.train.session import deterministic, make_model
from e2train.train.trained import TrainedModel, load_trained

__all__ = ["Prediction", "evaluate_run", "images_to_test", "opened", "predict", "read_trained"]

_BATCH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The class that an image is taken for, and how sure the model is."""

    image: str
    name: str
    probability: float


def read_trained(run: Path) -> TrainedModel:
    """The trained model in the folder of a run, or of a model.pt by itself.

    Raises: TrainError when there is none.
    """
    path = RunFolder(run).model if run.is_dir() else run
    if not path.is_file():
        unfinished = (run / "checkpoint.pt").exists() and not (run / "summary.json").exists()
        reason = (
            "the run is not finished: go on with --resume"
            if unfinished
            else "give the folder of a finished run"
        )
        raise TrainError(f"no trained model {path}; {reason}")
    return load_trained(path)


def _host(trained: TrainedModel) -> str:
    """The torch device to use a model on: that of its training, or the CPU where that is not there."""
    return trained.config.host if torch.cuda.is_available() else "cpu"


@contextmanager
def opened(trained: TrainedModel, *, device: str = "emulator") -> Iterator[ResidualNet]:
    """The model, ready to classify on a device.

    Raises: TrainError when its state does not fit; DeviceError when there is no such device.
    """
    config = trained.config.changed(device=device, ranks=1, host=_host(trained))
    with deterministic(torch_threads(config)), open_context(config, Group()) as context:
        model = make_model(config, len(trained.names), trained.format.shape, context)
        try:
            model.load_state_dict(trained.state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise TrainError(f"the trained model does not fit its settings: {reason}") from error
        share(model, Group())  # Brevitas has rebuilt its quantisers
        yield model.eval()


def images_to_test(trained: TrainedModel, data: Path | None) -> tuple[Dataset, str]:
    """The images that the run was tested on, or those of a folder or .npz file; and what they are.

    Raises: DataError when they are not there, or have other classes; TrainError when the run's own ones have
        changed.
    """
    config = trained.config
    if data is not None and not config.preset.startswith(("cifar", "imagenet")):
        return labelled_images(data, trained.format, trained.names), str(data)
    if data is not None:
        config = config.changed(data=str(data), validation=0.0)
    split: Split = load_split(config)
    if data is not None and split.names != trained.names:
        check_classes(data, split.names, trained.names)
        return renumbered(split.test, split.names, trained.names), "test"
    if data is None and config.data_sha256 not in ("", split.sha256):
        raise TrainError(
            f"{config.data} holds other images than the run has learnt from, maybe those that it would be "
            "tested on; give images to test with --data"
        )
    return split.test, "validation" if config.validation else "test"


def _is_trained_on(data: Path, own: Path) -> bool:
    """Whether images to test are those of the training: data without a test part, or its folder ``train``."""
    return data.resolve() in (own.resolve(), own.resolve() / "train") and not has_test_part(data)


def evaluate_run(run: Path, *, data: Path | None = None, device: str = "emulator") -> Evaluation:
    """Test a trained model, and put what it takes for what into the run's evaluation.json and report.

    Raises: TrainError, DataError or DeviceError when that cannot be done.
    """
    trained = read_trained(run)
    if not run.is_dir():
        return _tested(trained, data, device)
    folder = RunFolder(run)
    with folder.held(otherwise=f"give {folder.model} to test it without a report"):
        finished = read_run(run, evaluated=False)
        if trained.weights_sha256 != finished.summary.weights_sha256:
            raise TrainError(
                f"{folder.model} is of another run: its weights are not those of {folder.summary.name}; give "
                "the whole folder of one run, or the file by itself"
            )
        evaluation = _tested(trained, data, device)
        finished = replace(finished, evaluation=evaluation)
        write_atomically(folder.evaluation, evaluation.to_json() + "\n")
        write_atomically(folder.report, render_report([finished], load_costs()))
    return evaluation


def _tested(trained: TrainedModel, data: Path | None, device: str) -> Evaluation:
    images, tested = images_to_test(trained, data)
    if data is not None and trained.config.own_data and _is_trained_on(data, Path(trained.config.data)):
        warn(f"the run has learnt from images in {data}: their accuracy says too much")
    with opened(trained, device=device) as model:
        host = torch.device(_host(trained))
        count = trained.config.test_images if data is None else 0
        confusion = classify(model, images, classes=len(trained.names), count=count, host=host)
    assert confusion is not None
    return Evaluation(
        tested=tested,
        names=list(trained.names),
        confusion=confusion.tolist(),
        weights_sha256=trained.weights_sha256,
    )


def _warn_of_changes(trained: TrainedModel, images: Sequence[Path]) -> None:
    """Raises: DataError when a file is no image."""
    channels, sizes = zip(*map(scan_image, images), strict=True) if images else ((), ())
    if oblong := sum(width != height for width, height in sizes):
        warn_of_squares(f"{oblong} of {len(images)} images are")
    if coloured := sum(count > trained.format.channels for count in channels):
        warn_of_colours(coloured, len(images))


@torch.no_grad()
def predict(trained: TrainedModel, images: Sequence[Path], *, device: str = "emulator") -> list[Prediction]:
    """The class that each image file is taken for; warns where images are cut, or lose their colours.

    Raises: DataError when a file is no image.
    """
    _warn_of_changes(trained, images)
    pixels = [read_pixels(path, trained.format) for path in images]
    found = []
    with opened(trained, device=device) as model:
        host = torch.device(_host(trained))
        for start in range(0, len(pixels), _BATCH):
            inputs = trained.format.to_input(np.stack(pixels[start : start + _BATCH]))
            probabilities, classes = model(inputs.to(host)).softmax(dim=1).max(dim=1)
            found += list(zip(classes.tolist(), probabilities.tolist(), strict=True))
    return [
        Prediction(image=str(path), name=trained.names[label], probability=probability)
        for path, (label, probability) in zip(images, found, strict=True)
    ]
