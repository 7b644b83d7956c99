# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np

from e2train.train.data.dataset import Arrays, ImageFormat, Split

__all__ = ["digits_split"]

_TEST_PER_CLASS = 36
_SPLIT_SEED = 1797  # fixed: the split is part of the data set, not of a run


def digits_split() -> Split:
    """1,797 digits, 8x8: 1,437 to train on, 360 (36 of each) held out.

    >>> len(digits_split().train), len(digits_split().test)
    (1437, 360)
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    held_out = np.concatenate([order[labels[order] == digit][:_TEST_PER_CLASS] for digit in range(10)])
    kept = np.setdiff1d(np.arange(len(labels)), held_out)
    return Split(
        train=Arrays(images=images[kept], labels=labels[kept]),
        test=Arrays(images=images[held_out], labels=labels[held_out]),
        names=tuple(map(str, range(10))),
        format=ImageFormat(channels=1, size=8, unit=255.0),  # 0..16 of a digit is 0..255 of an image file
    )
