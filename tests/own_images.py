# SPDX-License-Identifier: Apache-2.0
"""Folders of images of one's own, and what becomes of them."""

import numpy as np
import pytest
from e2train.train import DataError
from e2train.train.data.own_data import own_split
from PIL import Image

__all__ = ["CLASSES", "LAYOUT", "refusal", "split_of", "write_images"]

CLASSES = ("ant", "bee", "cat", "dog")
LAYOUT = "give --data a folder with CLASS/*.png, or with train/CLASS/*.png and val/CLASS/*.png"


def write_images(folder, *, count, rng, size=(12, 10), mode="RGB", classes=CLASSES):
    """Noise around a brightness of its own for each class."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            shape = size[::-1] if mode == "L" else (*size[::-1], 3)
            pixels = rng.normal(50 + 50 * number, 10, shape).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


def split_of(root, **options):
    """The images there, split as a training does."""
    defaults = {"channels": 0, "size": 0, "most_size": 32, "augment": False, "validation": 0.0, "seed": 1}
    return own_split(root, **defaults | options)


def refusal(root, **options):
    """Why the images there are refused."""
    with pytest.raises(DataError) as error:
        split_of(root, **options)
    return str(error.value)
