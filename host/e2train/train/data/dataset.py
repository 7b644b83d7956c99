# SPDX-License-Identifier: Apache-2.0
"""Data sets, and batches whose draws are keyed by what they belong to."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Arrays",
    "Batches",
    "DataError",
    "DataWarning",
    "Dataset",
    "ImageFormat",
    "Part",
    "Split",
    "check_names",
    "hash_of",
    "hold_out",
    "mirror_and_shift",
    "warn",
    "warn_of_colours",
    "warn_of_squares",
]

Indices = NDArray[np.int64]
Words = NDArray[np.uint64]

_SHIFT = 4  # pixels, as in the CIFAR recipes
_STREAM = 3  # keeps these draws apart from others with the same seed


class DataError(ValueError):
    """Data that is not where it should be, or not what it should be."""


class DataWarning(UserWarning):
    """Data of which a part is not used."""


def check_names(names: Sequence[str], place: Path) -> None:
    """Refuse names of classes that are the same, or break a line.

    Raises: DataError.
    """
    for index, name in enumerate(names):
        if name in names[:index]:
            raise DataError(f"{place} has two classes named {name!a}; give each a name of its own")
        if name.splitlines() != [name]:
            raise DataError(f"{place} has the class {name!a}; give it a name of one line")


def warn(text: str) -> None:
    """Say what of the data is not used."""
    warnings.warn(text, DataWarning, stacklevel=2)


def warn_of_squares(which: str) -> None:
    """Say that images are cut; ``which`` begins the sentence."""
    warn(f"{which} not square: the middle square of each is used; crop or pad them for another part")


def warn_of_colours(coloured: int, count: int) -> None:
    """Say that colours are not used."""
    warn(f"{coloured} of {count} images have colour channels; the model takes the brightness")


class Dataset(Protocol):
    """Images with their classes."""

    def __len__(self) -> int: ...
    def take(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Some images (n, C, H, W) in float32, and their classes (n,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """How pixels in 0..255 become a model's input: real = (pixel / unit - mean) / std, by channel."""

    channels: int
    size: int  # rows, and as many columns
    unit: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.size, self.size

    def to_input(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels as a model takes them. Shapes: (N, C, H, W)."""
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (torch.from_numpy(pixels).float() / self.unit - mean) / std


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """A data set in memory: real = (image - mean) / std, by channel."""

    images: NDArray[Any]  # (N, C, H, W), uint8 or float32
    labels: NDArray[np.int64]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Some images and their classes, as tensors."""
        images = torch.from_numpy(self.images[indices]).float()
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std, torch.from_numpy(self.labels[indices])


def hash_of(*parts: Arrays) -> str:
    """What tells images and classes in memory from others."""
    digest = hashlib.sha256()
    for part in parts:
        for array in (part.images, part.labels):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What is trained on, and what is held out; ``augment`` where images may be mirrored and shifted."""

    train: Dataset
    test: Dataset
    names: tuple[str, ...]  # of the classes
    format: ImageFormat
    augment: bool = False
    validation: float = 0.0  # share of the training images that is held out as ``test``
    sha256: str = ""  # of arrays, or of the names of files, of own images with their sizes

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of the images of a data set."""

    whole: Dataset
    indices: Indices

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Some images and their classes, as tensors."""
        return self.whole.take(self.indices[indices])


def hold_out(split: Split, share: float, *, seed: int) -> Split:
    """The training images without a share of them, and that share in the place of the test set.

    Raises: DataError when nothing is left to train on or to test.
    """
    total = len(split.train)
    count = round(share * total)
    if not 0 < count < total:
        raise DataError(f"validation {share} holds out {count} of {total} training images; use another share")
    order = np.random.default_rng([seed, 0, _STREAM]).permutation(total)
    held_out, kept = (np.sort(part) for part in (order[:count], order[count:]))
    train, test = (Part(whole=split.train, indices=indices) for indices in (kept, held_out))
    return replace(split, train=train, test=test, validation=share)


class Batches:
    """Shuffled batches of a data set; what a step gets depends on (seed, step) alone."""

    def __init__(
        self,
        data: Dataset,
        *,
        batch: int,
        seed: int,
        augment: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """``part`` (k, n) loads the k-th of n parts of each batch."""
        self._part = part
        self._data = data
        self._batch = batch
        self._seed = seed
        self._augment = augment
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    @property
    def smallest(self) -> int:
        """Images of the smallest batch."""
        return len(self._data) % self._batch or self._batch

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self._data) // self._batch)

    def size(self, step: int) -> int:
        """Images of a step's whole batch."""
        return min(self._batch, len(self._data) - step % self.per_epoch * self._batch)

    def images(self, steps: int) -> int:
        """Images of the whole batches of the first ``steps`` steps."""
        epochs, more = divmod(steps, self.per_epoch)
        return epochs * len(self._data) + more * self._batch

    def load(self, step: int) -> tuple[Tensor, Tensor]:
        """The images and classes of one step, or its part of them.

        Shapes: (N, C, H, W) and (N,).
        """
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._data))
        whole = self._order[index * self._batch : (index + 1) * self._batch]
        chosen = np.array_split(whole, self._part[1])[self._part[0]]
        images, labels = self._data.take(chosen)
        if self._augment:
            images = mirror_and_shift(images, chosen, epoch=epoch, seed=self._seed)
        return images, labels


def mirror_and_shift(images: Tensor, indices: Indices, *, epoch: int, seed: int) -> Tensor:
    """Half of the images mirrored, and all shifted by up to 4 pixels, as (seed, epoch, its index) say.

    Shapes: (N, C, H, W), unchanged. What comes in at the border is 0.
    """
    size = images.shape[2:]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(size), axis=(2, 3))  # type: ignore[call-overload]
    down, right, side = (_keyed_bits(seed, epoch, indices, draw=draw) for draw in range(3))
    places = 2 * _SHIFT + 1
    shifted = windows[np.arange(len(indices)), :, _below(down, places), _below(right, places)]
    mirrored = _below(side, 2) == 1
    shifted[mirrored] = shifted[mirrored, ..., ::-1]
    return torch.from_numpy(shifted)


def _keyed_bits(seed: int, epoch: int, indices: NDArray[np.int64], *, draw: int) -> Words:
    """64 random bits for each index, which depend on these arguments alone; another ``draw`` gives others.

    >>> _keyed_bits(1, 2, np.array([7, 8]), draw=0).tolist()
    [11649801027917851897, 13916974278312268982]
    """
    words = np.zeros(len(indices), np.uint64)
    for key in (seed, draw, epoch):
        words = _mixed(words ^ np.uint64(key))
    return _mixed(words ^ indices.astype(np.uint64))


def _below(bits: Words, count: int) -> NDArray[np.int64]:
    """Numbers in 0..count-1 from the high halves of words; none is likelier by more than count in 2**32.

    >>> _below(np.array([0, 1 << 63, 2**64 - 1], np.uint64), 9).tolist()
    [0, 4, 8]
    """
    return ((bits >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)).astype(np.int64)


def _mixed(words: Words) -> Words:
    """One step of SplitMix64 from each state (Steele, Lea and Flood, OOPSLA 2014).

    >>> hex(_mixed(np.zeros(1, np.uint64))[0])
    '0xe220a8397b1dcdaf'
    """
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
