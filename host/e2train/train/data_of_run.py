# SPDX-License-Identifier: Apache-2.0
"""The data that a run's settings name, and the settings that its data decides."""

from __future__ import annotations

from pathlib import Path

from e2train.nn import image_shape
from e2train.train.config import RunConfig
from e2train.train.data import (
    DataError,
    Split,
    cifar_split,
    digits_split,
    folder_split,
    hold_out,
    own_split,
)
from e2train.train.presets import MODELS

__all__ = ["load_split", "settled"]


def load_split(config: RunConfig) -> Split:
    """What a run is trained and tested on, in the place of the test set perhaps a share for validation.

    Raises: DataError when it is not there.
    """
    if config.preset == "digits":
        split = digits_split()
    elif not config.data:
        what = "DIR|FILE.npz" if config.own_data else "DIR"
        raise DataError(f"{config.preset} needs its data: give the folder where it lies with --data {what}")
    elif config.own_data:
        return own_split(
            Path(config.data),
            channels=config.channels,
            size=config.image_size,
            most_size=image_shape(MODELS[config.preset])[1],
            augment=config.augment == "mirror-shift",
            validation=config.validation,
            seed=config.seed,
        )
    elif config.preset.startswith("imagenet"):
        split = folder_split(Path(config.data), size=224)
    else:
        classes = 100 if config.preset.startswith("cifar100") else 10
        split = cifar_split(Path(config.data), classes=classes)
    return hold_out(split, config.validation, seed=config.seed) if config.validation else split


def settled(config: RunConfig, split: Split) -> RunConfig:
    """The settings with what was left to the data: size and channels of images, share held out."""
    if not config.own_data:
        return config
    form = split.format
    return config.changed(
        image_size=form.size,
        channels=form.channels,
        validation=split.validation,
        data_sha256=split.sha256,
    )
