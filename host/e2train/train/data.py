# SPDX-License-Identifier: Apache-2.0
"""Data sets, and batches whose draws are keyed by what they belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

__all__ = ["Batches", "Dataset", "Split", "digits_split"]

_TEST_PER_CLASS = 36
_SPLIT_SEED = 1797  # fixed: the split is part of the data set, not of a run


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Pictures (N, C, H, W) in 0..1 and their classes."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Some pictures and their classes, as tensors."""
        return torch.from_numpy(self.images[indices]), torch.from_numpy(self.labels[indices])


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What is trained on, and what is held out."""

    train: Dataset
    test: Dataset


def digits_split() -> Split:
    """scikit-learn's 1,797 handwritten digits, 8x8: 1,437 to train on, 360 (36 of each) held out.

    >>> len(digits_split().train), len(digits_split().test)
    (1437, 360)
    """
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    held_out = np.concatenate([order[labels[order] == digit][:_TEST_PER_CLASS] for digit in range(10)])
    kept = np.setdiff1d(np.arange(len(labels)), held_out)
    return Split(
        train=Dataset(images=images[kept], labels=labels[kept]),
        test=Dataset(images=images[held_out], labels=labels[held_out]),
    )


class Batches:
    """Shuffled batches of a data set; which pictures a step gets depends on (seed, step) alone."""

    def __init__(self, data: Dataset, *, batch: int, seed: int) -> None:
        self._data = data
        self._batch = batch
        self._seed = seed
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-len(self._data) // self._batch)

    def load(self, step: int) -> tuple[Tensor, Tensor]:
        """The pictures and classes of one step.

        Shapes: (N, C, H, W) and (N,).
        """
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._data))
        return self._data.take(self._order[index * self._batch : (index + 1) * self._batch])
