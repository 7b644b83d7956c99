# SPDX-License-Identifier: Apache-2.0
"""Data sets and batches."""

from e2train.train.data.cifar import cifar_split
from e2train.train.data.dataset import Arrays, Batches, DataError, Dataset, ImageFormat, Split, hold_out
from e2train.train.data.digits import digits_split
from e2train.train.data.image_folder import folder_split, read_pixels
from e2train.train.data.own_data import labelled_images, own_split

__all__ = [
    "Arrays",
    "Batches",
    "DataError",
    "Dataset",
    "ImageFormat",
    "Split",
    "cifar_split",
    "digits_split",
    "folder_split",
    "hold_out",
    "labelled_images",
    "own_split",
    "read_pixels",
]
