# SPDX-License-Identifier: Apache-2.0
"""Pictures in folders, one folder per class, as ImageNet is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from e2train.train.data.dataset import DataError, Indices, Split

__all__ = ["folder_split"]

_ENDINGS = (".jpeg", ".jpg", ".png")
_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as every published ResNet-18 has it
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pictures:
    """Files that are read when they are asked for, scaled and cut to a square."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Some pictures and their classes, as tensors.

        Raises: DataError when a file is no picture.
        """
        images = torch.from_numpy(np.stack([self._read(self.files[index]) for index in indices.tolist()]))
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        labels = torch.tensor([self.labels[index] for index in indices.tolist()])
        return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std, labels

    def _read(self, path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                square = ImageOps.fit(image.convert("RGB"), (self.size, self.size), Image.Resampling.BILINEAR)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{path} is no picture that can be read: {error}") from error
        return np.asarray(square, np.uint8)


def folder_split(root: Path, *, size: int) -> Split:
    """``root``/train and ``root``/val, with a folder of pictures for each class.

    Raises: DataError when a folder is missing or empty, or the two parts have different classes.
    """
    names = [_classes(root / part) for part in ("train", "val")]
    if names[0] != names[1]:
        raise DataError(f"{root}: train and val have different classes ({len(names[0])} and {len(names[1])})")
    train, test = (_pictures(root / part, names[0], size) for part in ("train", "val"))
    return Split(train=train, test=test, classes=len(names[0]), augment=True)


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}: give --data a folder with train/CLASS/*.jpg and val/CLASS/*.jpg"
        )
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _pictures(folder: Path, classes: list[str], size: int) -> _Pictures:
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in _ENDINGS
    ]
    if not found:
        raise DataError(f"no pictures ({', '.join(_ENDINGS)}) in the class folders of {folder}")
    files, labels = zip(*found, strict=True)
    return _Pictures(files=files, labels=labels, size=size)
