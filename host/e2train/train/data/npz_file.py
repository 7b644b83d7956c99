# SPDX-License-Identifier: Apache-2.0
"""Images in an .npz file, read without running anything, and checked before they are used."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from e2train.train.data.dataset import DataError, ImageFormat, Indices, warn, warn_of_squares
from e2train.train.data.image_folder import Pixels

__all__ = ["ImageArray", "read_images"]

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_LARGEST = 8 << 30  # bytes of an array
_LARGEST_CLASS = 2**63 - 1
_UNCHANGED = ImageFormat(channels=0, size=0)
Labels = NDArray[np.int64]
_Part = tuple[Pixels, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ImageArray:
    """Images in memory; scaled and cut to a square when they are asked for."""

    images: Pixels  # (N, C, H, W)
    labels: tuple[int, ...]
    format: ImageFormat = _UNCHANGED

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Some images and their classes, as tensors."""
        labels = torch.tensor([self.labels[index] for index in indices.tolist()])
        return self.format.to_input(self.pixels(indices)), labels

    def pixels(self, indices: Indices) -> Pixels:
        """Some images. Shapes: (N, C, H, W)."""
        images = self.images[indices]
        if images.shape[1:] == self.format.shape:
            return images
        return np.stack([_fitted(image, self.format) for image in images])

    def found(self) -> tuple[int, int]:
        """How many images have colours, and their shorter side."""
        H, W = self.images.shape[2:]
        if H != W:
            warn_of_squares(f"images of {W} x {H} pixels are")
        return len(self) if self.images.shape[1] > 1 else 0, min(H, W)

    def formatted(self, form: ImageFormat) -> ImageArray:
        """The same in another format."""
        return replace(self, format=form)

    def identify(self) -> bytes:
        """A hash of all pixels and classes."""
        digest = hashlib.sha256(self.images.tobytes())
        digest.update(np.array(self.labels, np.int64).tobytes())
        return digest.digest()


def read_images(path: Path) -> tuple[tuple[str, ...], _Part, _Part | None]:
    """Names of the classes, images to train on (x_train, y_train), and images to test (x_test, y_test).

    Raises: DataError when the file is not there, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            arrays = {key: _array(archive, f"{key}.npy", path) for key in _KEYS if key in keys}
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # a damaged archive can raise anything
        raise DataError(f"{path} is no .npz file: {' '.join(str(error).split())[:100]}") from error
    for key in ("x_train", "y_train", *(("x_test", "y_test") if {"x_test", "y_test"} & {*arrays} else ())):
        if key not in arrays:
            raise DataError(
                f"{path} has no {key}; it must hold x_train, y_train, and for a test x_test, y_test"
            )
    numbers = np.unique(_labels(arrays["y_train"], "y_train", path))
    parts = [
        _part(arrays, part, numbers, path) if f"x_{part}" in arrays else None for part in ("train", "test")
    ]
    train, test = parts
    assert train is not None
    if test is not None and train[0].shape[1] != test[0].shape[1]:
        raise DataError(f"{path}: x_train has {train[0].shape[1]} channels, x_test {test[0].shape[1]}")
    if test is not None and train[0].shape[2:] != test[0].shape[2:]:
        sizes = " and ".join(f"{part[0].shape[3]} x {part[0].shape[2]}" for part in (train, test))
        raise DataError(f"{path}: images of x_train and x_test have {sizes} pixels; make them alike")
    if left_out := [key for key in keys if key.startswith(("x_", "y_")) and key not in _KEYS]:
        warn(f"{path}: {', '.join(left_out)[:100]} left out; {', '.join(_KEYS)} are read")
    return tuple(map(str, numbers.tolist())), train, test


def _part(arrays: dict[str, NDArray[np.generic]], part: str, numbers: Labels, path: Path) -> _Part:
    images = _images(arrays[f"x_{part}"], f"x_{part}", path)
    labels = _labels(arrays[f"y_{part}"], f"y_{part}", path)
    if len(labels) != len(images):
        raise DataError(f"{path}: x_{part} has {len(images)} images, y_{part} {len(labels)} classes")
    if unknown := sorted({*labels.tolist()} - {*numbers.tolist()}):
        raise DataError(f"{path}: y_{part} has the class {unknown[0]}, which y_train does not have")
    return images, tuple(np.searchsorted(numbers, labels).tolist())


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[np.generic]:
    """An array of numbers whose size is that of its file; no other kind is read."""
    with archive.open(name) as file:
        version = npy.read_magic(file)  # type: ignore[no-untyped-call]
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_columns, dtype = read_header(file)  # type: ignore[no-untyped-call]
        nbytes = prod(shape) * dtype.itemsize
        if dtype.kind not in "iu" or dtype.hasobject:
            raise DataError(f"{path}: {name[:-4]} holds {dtype}, it must hold integers (images uint8)")
        if min(shape, default=0) < 1 or nbytes > _LARGEST:
            raise DataError(f"{path}: {name[:-4]} has the shape {shape}: empty, or more than 8 GiB")
        data = file.read(nbytes + 1)
    if len(data) != nbytes:
        raise DataError(f"{path}: {name[:-4]} is not {shape} of {dtype}: the file is damaged")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")


def _images(values: NDArray[np.generic], key: str, path: Path) -> Pixels:
    """Shapes: (N, H, W), (N, H, W, C) or (N, C, H, W) -> (N, C, H, W)."""
    if values.dtype != np.uint8:
        raise DataError(f"{path}: {key} holds {values.dtype}, it must hold uint8")
    images: Pixels = values.astype(np.uint8)
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    raise DataError(
        f"{path}: {key} has the shape {images.shape}, it must be (N, H, W), (N, H, W, C) or (N, C, H, W) "
        "with 1 or 3 channels"
    )


def _labels(values: NDArray[np.generic], key: str, path: Path) -> Labels:
    """Shapes: (N,) or (N, 1) -> (N,)."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"{path}: {key} has the shape {values.shape}, it must be (N,) or (N, 1)")
    if (largest := int(values.max())) > _LARGEST_CLASS:
        raise DataError(f"{path}: {key} has the class {largest}, it must be at most {_LARGEST_CLASS}")
    return values.astype(np.int64)


def _fitted(image: Pixels, form: ImageFormat) -> Pixels:
    """Shapes: (C, H, W) -> that of the format."""
    from PIL import Image, ImageOps

    grey = len(image) == 1
    whole = Image.fromarray(image[0] if grey else image.transpose(1, 2, 0))
    whole = whole.convert("L" if form.channels == 1 else "RGB")
    square = ImageOps.fit(whole, (form.size, form.size), Image.Resampling.BILINEAR)
    return np.asarray(square, np.uint8).reshape(form.size, form.size, -1).transpose(2, 0, 1)
