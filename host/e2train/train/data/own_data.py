# SPDX-License-Identifier: Apache-2.0
"""A user's own images: a folder for each class, or arrays in an .npz file.

Where no images are kept for the test, a share of each class is held out. Images are normalised by mean and
standard deviation of the training part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from e2train.train.data.dataset import (
    DataError,
    Dataset,
    ImageFormat,
    Indices,
    Part,
    Split,
    warn,
    warn_of_colours,
    warn_of_squares,
)
from e2train.train.data.image_folder import (
    ENDINGS,
    ImageFiles,
    Pixels,
    class_files,
    class_names,
    has_images,
    loose_images,
    scan_image,
)
from e2train.train.data.npz_file import ImageArray, read_images

__all__ = [
    "SHARE",
    "OwnImages",
    "check_classes",
    "has_test_part",
    "labelled_images",
    "own_split",
    "renumbered",
]

SHARE = 0.2
"""Of the images that are held out where none are kept for the test."""

_LAYOUT = "give --data a folder with CLASS/*.png, or with train/CLASS/*.png and val/CLASS/*.png"
_STREAM = 4  # keeps these draws apart from others with the same seed
_SAMPLE = 2000  # images that mean and standard deviation are taken from
_CHUNK = 100
_SHOWN = 10  # classes in a message
_MEANT_AS_VAL = ("valid", "validation")


class OwnImages(Dataset, Protocol):
    """Images with their classes that are not normalised yet."""

    @property
    def labels(self) -> tuple[int, ...]:
        """Their classes."""
        ...

    def pixels(self, indices: Indices) -> Pixels:
        """Some images. Shapes: (N, C, H, W)."""
        ...

    def found(self) -> tuple[int, int]:
        """How many images have colours, and their usual shorter side; warns where some are cut."""
        ...

    def formatted(self, form: ImageFormat) -> OwnImages:
        """The same in another format."""
        ...

    def identify(self) -> bytes:
        """What tells them from other images."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files(ImageFiles):
    """Images in the folders of their classes."""

    def found(self) -> tuple[int, int]:
        """How many images have colours, and their usual shorter side."""
        channels, sizes = zip(*map(scan_image, self.files), strict=True)
        if oblong := sum(width != height for width, height in sizes):
            warn_of_squares(f"{oblong} of {len(sizes)} images are")
        return sum(count > 1 for count in channels), int(np.median([min(size) for size in sizes]))

    def formatted(self, form: ImageFormat) -> _Files:
        """The same in another format."""
        return replace(self, format=form, kept={})

    def identify(self) -> bytes:
        """Names of files and folders, and hashes of what is in them."""
        return b"".join(
            f"{path.parent.name}/{path.name} ".encode(errors="surrogateescape")
            + hashlib.sha256(path.read_bytes()).digest()
            for path in self.files
        )


def own_split(
    root: Path,
    *,
    channels: int,
    size: int,
    most_size: int,
    augment: bool,
    validation: float,
    seed: int,
) -> Split:
    """Images of a folder or an .npz file; 0 for ``channels`` and ``size`` takes what the images have.

    A size that is found is at most ``most_size``. Where there are no images for the test, and no share is
    held out for ``validation``, a fifth of each class is.

    Raises: DataError when the data is not there, or cannot be trained on.
    """
    names, train, test = _read(root)
    if len(names) < 2:
        raise DataError(f"{root} has 1 class, {names[0]}; at least 2 are needed: {_LAYOUT}")
    coloured, found_size = train.found()
    form = ImageFormat(channels=channels or (3 if coloured else 1), size=size or min(found_size, most_size))
    _warn_of_lost_colours(coloured, train, form)
    if test is not None and validation:
        warn(
            f"{root} has images for the test, which are not used: validation {validation} holds out training "
            "images; --set validation=0 tests the others"
        )
    if test is not None:
        _warn_of_lost_colours(test.found()[0], test, form)
    kept = np.arange(len(train))
    share = validation or (0.0 if test is not None else SHARE)
    if share:
        kept, held_out = _hold_out_each(train.labels, share, seed=seed)
    form = _normalised(train.formatted(form), kept, form)
    train = train.formatted(form)
    tested: Dataset = Part(whole=train, indices=held_out) if share else test.formatted(form)  # type: ignore[union-attr]
    return Split(
        train=Part(whole=train, indices=kept),
        test=tested,
        names=names,
        format=form,
        augment=augment,
        validation=share,
        sha256=hashlib.sha256(b"test\n".join(part.identify() for part in (train, test) if part)).hexdigest(),
    )


def has_test_part(root: Path) -> bool:
    """Whether a folder or file has a part for the test, which ``labelled_images`` takes."""
    return _read(root)[2] is not None


def labelled_images(root: Path, form: ImageFormat, names: tuple[str, ...]) -> Dataset:
    """Images with their classes to test a model on, which knows the classes ``names``.

    Of a folder or file with a part for the test, that part.

    Raises: DataError when the data is not there, or has other classes.
    """
    found, train, test = _read(root)
    check_classes(root, found, names)
    chosen = train if test is None else test
    _warn_of_lost_colours(chosen.found()[0], chosen, form)
    return renumbered(chosen.formatted(form), found, names)


def check_classes(root: Path, found: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Make sure that all classes that were found are among those that a model knows.

    Raises: DataError when they are not.
    """
    if unknown := [name for name in found if name not in names]:
        raise DataError(
            f"{root} has the class {unknown[0]}, which the run does not know; it knows {_some(names)}: leave "
            "out or rename what it does not"
        )


def renumbered(images: Dataset, found: tuple[str, ...], names: tuple[str, ...]) -> Dataset:
    """Images whose classes have numbers by their names among those that a model knows."""
    return _Renumbered(images=images, numbers=np.array([names.index(name) for name in found]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Renumbered:
    images: Dataset
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Some images and their classes, as tensors."""
        import torch

        images, labels = self.images.take(indices)
        return images, torch.from_numpy(self.numbers)[labels]


def _read(root: Path) -> tuple[tuple[str, ...], OwnImages, OwnImages | None]:
    """Names of the classes, images to train on, and images to test."""
    if root.suffix.lower() == ".npz":
        names, kept, held_out = read_images(root)
        return names, ImageArray(*kept), ImageArray(*held_out) if held_out else None
    if not root.is_dir():
        missing = f"{root} is neither a folder nor .npz" if root.exists() else f"no folder {root}"
        raise DataError(f"{missing}: {_LAYOUT}")
    train = root / "train"
    if not (train.is_dir() and _folders(train)):  # else "train" may be a class
        return _folders(root), _files(root), None
    test = next((root / part for part in ("val", "test") if (root / part).is_dir()), None)
    _look_beside(root, test)
    if test is None:
        return _folders(train), _files(train), None
    if differing := sorted({*_folders(train)} ^ {*_folders(test)}):
        raise DataError(f"{root}: train and {test.name} have different classes, such as {differing[0]}")
    return _folders(train), _files(train), _files(test)


def _look_beside(root: Path, test: Path | None) -> None:
    """Warn of images beside train and ``test``, which are not read.

    Raises: DataError where they are surely meant to be tested.
    """
    used = {"train"} if test is None else {"train", test.name}
    beside = [name for name in _folders(root) if name not in used and has_images(root / name)]
    if test is None and (meant := [name for name in beside if name.lower() in _MEANT_AS_VAL]):
        raise DataError(f"{root} has {meant[0]} beside train; rename it to val to test on it")
    if beside:
        warn(
            f"{root}: images in {_some(beside)} are left out; those in {' and '.join(sorted(used))} are read"
        )
    _warn_of_loose_images(root)


def _warn_of_loose_images(folder: Path) -> None:
    if count := loose_images(folder):
        warn(f"{folder} itself holds images ({count}), left out; those in folders of classes are read")


def _warn_of_lost_colours(coloured: int, images: OwnImages, form: ImageFormat) -> None:
    if coloured and form.channels == 1:
        warn_of_colours(coloured, len(images))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} others" if names[_SHOWN:] else "")


def _folders(root: Path) -> tuple[str, ...]:
    return tuple(class_names(root))


def _files(folder: Path) -> _Files:
    names = _folders(folder)
    if not names:
        raise DataError(f"no folders of classes in {folder}: {_LAYOUT}")
    files, labels = class_files(folder, names)
    if empty := [name for label, name in enumerate(names) if label not in labels]:
        raise DataError(f"no images ({', '.join(ENDINGS)}) in {folder / empty[0]}")
    _warn_of_loose_images(folder)
    return _Files(files=files, labels=labels, format=ImageFormat(channels=3, size=1))


def _hold_out_each(labels: tuple[int, ...], share: float, *, seed: int) -> tuple[Indices, Indices]:
    """Indices to train on, and those of a share of each class.

    Raises: DataError when nothing is left to train on or to test.
    """
    every, kept, held_out = np.array(labels), [], []
    for label in np.unique(every):
        of_class = np.flatnonzero(every == label)
        order = np.random.default_rng([seed, int(label), _STREAM]).permutation(of_class)
        count = round(share * len(of_class))
        held_out.append(order[:count])
        kept.append(order[count:])
    if not all(map(len, kept)) or not any(map(len, held_out)):
        raise DataError(
            f"validation {share} holds out {sum(map(len, held_out))} of {len(every)} images, or a whole "
            "class; use another share, or more images"
        )
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held_out))


def _normalised(images: OwnImages, kept: Indices, form: ImageFormat) -> ImageFormat:
    """The format with mean and standard deviation of some of the images."""
    chosen = kept[np.linspace(0, len(kept) - 1, min(len(kept), _SAMPLE)).astype(np.int64)]
    count, total, squares = 0, np.zeros(form.channels, np.int64), np.zeros(form.channels, np.int64)
    for start in range(0, len(chosen), _CHUNK):
        pixels = images.pixels(chosen[start : start + _CHUNK]).astype(np.int64)
        count += pixels[:, 0].size
        total += pixels.sum(axis=(0, 2, 3))
        squares += (pixels * pixels).sum(axis=(0, 2, 3))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean * mean, 1.0))  # of images all alike: 1
    return replace(form, mean=tuple(map(float, mean.round(3))), std=tuple(map(float, std.round(3))))
