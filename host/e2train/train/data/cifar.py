# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 and CIFAR-100 in their standard python layout, read without running what a file may hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.train.data.dataset import (
    Arrays,
    DataError,
    ImageFormat,
    Split,
    check_names,
    hash_of,
    warn,
)
from e2train.train.data.plain_pickle import read_plain_pickle

__all__ = ["cifar_split", "read_batch"]

_TRAIN_IMAGES, _TEST_IMAGES = 50_000, 10_000
_IMAGE_BYTES = 3 * 32 * 32
_LARGEST_FILE = 256 << 20  # CIFAR-100's training file has 155 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: str
    meta: tuple[str, str]  # file, and its entry with the classes' names
    classes: int
    mean: tuple[float, float, float]  # of the training images, in 0..255
    std: tuple[float, float, float]


_LAYOUTS = {
    10: _Layout(
        name="CIFAR-10",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{index}" for index in range(1, 6)),
        test="test_batch",
        labels="labels",
        meta=("batches.meta", "label_names"),
        classes=10,
        mean=(125.3, 123.0, 113.9),
        std=(63.0, 62.1, 66.7),
    ),
    100: _Layout(
        name="CIFAR-100",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        labels="fine_labels",
        meta=("meta", "fine_label_names"),
        classes=100,
        mean=(129.3, 124.1, 112.4),
        std=(68.2, 65.4, 70.4),
    ),
}


def cifar_split(root: Path, *, classes: int) -> Split:
    """CIFAR-10 or CIFAR-100 from the folder that holds the unpacked archive's folder.

    Raises: DataError when a file is missing, or is not such a batch.
    """
    layout = _LAYOUTS[classes]
    folder = root if root.name == layout.folder else root / layout.folder
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}: get it with e2train data fetch cifar{classes} --to DIR, and give --data DIR"
        )
    train, test = (
        _load([folder / name for name in layout.train], layout),
        _load([folder / layout.test], layout),
    )
    names = _names(folder, layout)
    for part, images, whole in (("training", train, _TRAIN_IMAGES), ("test", test, _TEST_IMAGES)):
        if len(train) and len(test) and len(images) != whole:  # else an error says so
            warn(
                f"{folder} holds {len(images):,} {part} images, {layout.name} has {whole:,}; for all of them "
                f"get it with e2train data fetch cifar{classes} into an empty folder"
            )
    return Split(
        train=train,
        test=test,
        sha256=hash_of(train, test),
        names=names,
        format=ImageFormat(channels=3, size=32, mean=layout.mean, std=layout.std),
        augment=True,
    )


def read_batch(path: Path) -> dict[str, Any]:
    """What a batch file holds: numbers, texts, lists, dictionaries and arrays; anything else is refused.

    Raises: DataError when the file cannot be read as that.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise DataError(f"{path} has more than {_LARGEST_FILE >> 20} MiB: not a CIFAR batch")
        content = read_plain_pickle(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{path} is not a CIFAR batch: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a CIFAR batch: it holds a {type(content).__name__}")
    return content


def _names(folder: Path, layout: _Layout) -> tuple[str, ...]:
    """The classes' names, or their numbers where the archive's list of names was not unpacked.

    Raises: DataError when the file does not hold them.
    """
    file, entry = layout.meta
    if not (folder / file).exists():
        return tuple(map(str, range(layout.classes)))
    names = read_batch(folder / file).get(entry)
    if (
        not isinstance(names, list)
        or len(names) != layout.classes
        or not all(isinstance(name, str | bytes) for name in names)
    ):
        raise DataError(f"{folder / file}: {entry} must be a list of {layout.classes} names")
    texts = [name if isinstance(name, str) else name.decode("utf-8", "replace") for name in names]
    check_names(texts, folder / file)
    return tuple(texts)


def _load(paths: Sequence[Path], layout: _Layout) -> Arrays:
    images, labels = zip(*(_checked(path, read_batch(path), layout) for path in paths), strict=True)
    return Arrays(
        images=np.concatenate(images), labels=np.concatenate(labels), mean=layout.mean, std=layout.std
    )


def _checked(
    path: Path, batch: dict[str, Any], layout: _Layout
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data, labels = batch.get("data"), batch.get(layout.labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_IMAGE_BYTES,):
        raise DataError(f"{path}: data must be uint8 rows of {_IMAGE_BYTES}; is it of another data set?")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise DataError(f"{path}: {layout.labels} must be a list of {len(data)} classes")
    if not all(isinstance(label, int) and 0 <= label < layout.classes for label in labels):
        raise DataError(f"{path}: {layout.labels} must be numbers in 0..{layout.classes - 1}")
    return data.reshape(-1, 3, 32, 32), np.array(labels, np.int64)
