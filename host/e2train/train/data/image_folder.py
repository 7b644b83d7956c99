# SPDX-License-Identifier: Apache-2.0
"""Images in folders, one folder per class, as ImageNet is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from e2train.train.data.dataset import DataError, ImageFormat, Indices, Split, check_names
from e2train.train.files import is_text

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "ENDINGS",
    "ImageFiles",
    "class_files",
    "class_names",
    "folder_split",
    "has_images",
    "loose_images",
    "read_pixels",
    "scan_image",
]

ENDINGS = (".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
_UNKNOWN_TO_PILLOW = (".avif", ".dng", ".heic", ".heif", ".jxl", ".svg")  # some of them to some versions
_NO_IMAGES = ("BUFR", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF")  # but Pillow has names for them
_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, as every published ResNet-18 has it
_STD = (0.229, 0.224, 0.225)
_GREY = ("1", "L", "LA")
_WIDE = ("F", "I")  # and I;16 of any byte order: more than 8 bits
_OPAQUE, _BITS = 255, 8
_PNG_BITS_AT = 24
_KEPT_BYTES = 1 << 30  # of pixels in memory, where all images fit

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFiles:
    """Files that are read when they are asked for, scaled and cut to a square."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    format: ImageFormat
    kept: dict[int, Pixels] = field(default_factory=dict)  # read before

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Some images and their classes, as tensors.

        Raises: DataError when a file is no image.
        """
        labels = torch.tensor([self.labels[index] for index in indices.tolist()])
        return self.format.to_input(self.pixels(indices)), labels

    def pixels(self, indices: Indices) -> Pixels:
        """Some images. Shapes: (N, C, H, W).

        Raises: DataError when a file is no image.
        """
        return np.stack([self._read(index) for index in indices.tolist()])

    def _read(self, index: int) -> Pixels:
        if (known := self.kept.get(index)) is not None:
            return known
        pixels = read_pixels(self.files[index], self.format)
        if pixels.nbytes * len(self.files) <= _KEPT_BYTES:
            self.kept[index] = pixels
        return pixels


def read_pixels(path: Path, form: ImageFormat) -> Pixels:
    """An image turned as its camera noted, scaled and cut to the middle square. Shapes: (C, H, W).

    Raises: DataError when the file is no image of 8 bits, or has transparent pixels.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            _check_pixels(image, path)
            whole = ImageOps.exif_transpose(image).convert("L" if form.channels == 1 else "RGB")
            square = ImageOps.fit(whole, (form.size, form.size), Image.Resampling.BILINEAR)
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise _no_image(path, error) from error
    return np.asarray(square, np.uint8).reshape(form.size, form.size, -1).transpose(2, 0, 1)


def scan_image(path: Path) -> tuple[int, tuple[int, int]]:
    """How many channels an image has, 1 or 3, and its width and height; mostly its header alone is read.

    Raises: DataError when the file is no image of 8 bits, or has transparent pixels.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            _check_pixels(image, path)
            return 1 if image.mode in _GREY else 3, image.size
    except DataError:
        raise
    except Exception as error:
        raise _no_image(path, error) from error


def _check_pixels(image: Image.Image, path: Path) -> None:
    """Refuse several images in one, more than 8 bits a channel, and pixels that one sees through.

    Raises: DataError.
    """
    count = getattr(image, "n_frames", 1)
    if count > 1 and image.format != "MPO":  # a camera's JPEG with a preview or a depth map behind it
        raise DataError(
            f"{path} is an animation of {count} images; save each that is to be read as its own file"
        )
    if image.mode.partition(";")[0] in _WIDE or (image.format == "PNG" and _png_bits(path) > _BITS):
        raise DataError(f"{path} has pixels of more than 8 bits (mode {image.mode}); convert it to 8 bits")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != _OPAQUE:
        raise DataError(f"{path} has transparent pixels; put it on a background first")


def _png_bits(path: Path) -> int:
    """Bits of a channel; colours of 16 are read as 8."""
    with path.open("rb") as file:
        return file.read(_PNG_BITS_AT + 1)[_PNG_BITS_AT]


def folder_split(root: Path, *, size: int) -> Split:
    """``root``/train and ``root``/val, with a folder of images for each class, normalised as ImageNet.

    Raises: DataError when a folder is missing or empty, or the two parts have different classes.
    """
    names = [_classes(root / part) for part in ("train", "val")]
    if names[0] != names[1]:
        raise DataError(f"{root}: train and val have different classes ({len(names[0])} and {len(names[1])})")
    form = ImageFormat(channels=3, size=size, unit=255.0, mean=_MEAN, std=_STD)

    def images(part: str) -> ImageFiles:
        files, labels = class_files(root / part, names[0])
        return ImageFiles(files=files, labels=labels, format=form)

    train, test = images("train"), images("val")
    named = "\n".join(
        f"{path.parent.name}/{path.name} {path.stat().st_size}"
        for part in (train, test)
        for path in part.files
    )
    return Split(
        train=train,
        test=test,
        names=tuple(names[0]),
        format=form,
        augment=True,
        sha256=hashlib.sha256(named.encode(errors="surrogateescape")).hexdigest(),
    )


def has_images(folder: Path) -> bool:
    """Whether a folder, or one in it, holds images, of kinds that are read or not."""
    images = {*ENDINGS, *_other_endings()}
    return any(file.suffix.lower() in images for file in folder.rglob("*") if not is_hidden(file))


def loose_images(folder: Path) -> int:
    """How many images lie in a folder itself, outside of the folders of classes."""
    images = {*ENDINGS, *_other_endings()}
    return sum(path.suffix.lower() in images and not is_hidden(path) for path in folder.iterdir())


@cache
def _other_endings() -> frozenset[str]:
    """Endings of images that are not read."""
    from PIL import Image

    known = [ending for ending, kind in Image.registered_extensions().items() if kind not in _NO_IMAGES]
    return frozenset({*_UNKNOWN_TO_PILLOW, *known} - {*ENDINGS, ".ps"})


def class_files(folder: Path, names: Sequence[str]) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """The images in the folders of some classes, with the numbers of the classes.

    Raises: DataError when there are none, or some that would not be read.
    """
    found = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if not is_hidden(path) and _is_read(path)
    ]
    if not found:
        raise DataError(f"no images ({', '.join(ENDINGS)}) in the class folders of {folder}")
    files, labels = zip(*found, strict=True)
    return files, labels


def class_names(folder: Path) -> list[str]:
    """The folders in a folder, in order.

    Raises: DataError for a link to nothing, and for a name that reports and settings cannot hold.
    """
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists() and not is_hidden(path):
            raise DataError(f"{path} is a link to {path.readlink()}, which is not there; fix or remove it")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path))
    if wrong := [name for name in names if not is_text(name)]:
        raise DataError(f"the class {wrong[0]!a} in {folder} is no UTF-8; rename its folder")
    check_names(names, folder)
    return names


def is_hidden(path: Path) -> bool:
    """Whether a system has left a file or folder there that is nobody's image.

    >>> [is_hidden(Path(name)) for name in (".ipynb_checkpoints", "._cat.png", "__MACOSX", "cat.png")]
    [True, True, True, False]
    """
    return path.name.startswith(".") or path.name == "__MACOSX"


def _is_read(path: Path) -> bool:
    """Whether a file in the folder of a class is an image; what is none is left out.

    Raises: DataError for an image of another kind, and for a folder with images.
    """
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return True
    if ending in _other_endings() and not path.is_dir():
        raise DataError(f"{path} is of a kind that is not read ({', '.join(ENDINGS)} are); convert it")
    if path.is_dir() and has_images(path):
        raise DataError(f"{path} is a folder of images in the folder of a class; move them up")
    return False


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}: give --data a folder with train/CLASS/*.jpg and val/CLASS/*.jpg"
        )
    return class_names(folder)


def _no_image(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:100]
    return DataError(f"{path} is no image that can be read: {reason}")
