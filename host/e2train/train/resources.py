# SPDX-License-Identifier: Apache-2.0
"""What a run's settings name: its data, its rank's device, torch's threads; and what its data decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from e2train.devices import ResidentDevice, StreamDevice, TensorDevice, open_device, open_resident
from e2train.nn import Group, OffloadContext, image_shape
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
from e2train.train.errors import TrainError
from e2train.train.presets import METHODS, MODELS
from e2train.train.ranks import device_of_rank

__all__ = ["host_device", "load_split", "open_context", "settled", "torch_threads"]


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
    for part, images in (("training", split.train), ("test", split.test)):
        if not len(images):
            raise DataError(f"{config.data} has no {part} images; get the data set again")
    return hold_out(split, config.validation, seed=config.seed) if config.validation else split


def settled(config: RunConfig, split: Split) -> RunConfig:
    """The settings with what was left to the data: size and channels of images, share held out.

    Raises: TrainError when they name other data.
    """
    if config.data_sha256 not in ("", split.sha256):
        named, there = config.data_sha256[:12], split.sha256[:12] or "(none)"
        raise TrainError(
            f"{config.data or config.preset} holds images with SHA-256 {there}..., the settings name those "
            f"with {named}...; give --set data_sha256= to train on these"
        )
    if not config.own_data:
        return config.changed(data_sha256=split.sha256)
    form = split.format
    return config.changed(
        image_size=form.size,
        channels=form.channels,
        validation=split.validation,
        data_sha256=split.sha256,
    )


def host_device(config: RunConfig) -> torch.device:
    """Where PyTorch computes.

    Raises: TrainError when there is no such device.
    """
    if config.host == "cuda" and not torch.cuda.is_available():
        raise TrainError("host is cuda, but torch finds no CUDA device; use --set host=cpu")
    return torch.device(config.host)


@contextmanager
def open_context(config: RunConfig, group: Group) -> Iterator[OffloadContext | None]:
    """This rank's device, for as long as it is needed; None where the method computes on the host.

    Raises: TrainError where the host has not what the settings ask for.
    """
    method = METHODS[config.method]
    host_device(config)  # an emulator may be there
    if not method.offloads:
        yield None
        return
    device: TensorDevice | StreamDevice | ResidentDevice
    spec = device_of_rank(config, group)
    of_board: dict[str, Any] = {key: getattr(config, key) for key in ("overlay", "token_file", "deadline_s")}
    if config.resident:
        device = open_resident(
            spec, config=config.board, host=config.host, threads=config.threads, **of_board
        )
    else:
        device = open_device(spec, config=config.board, **of_board)
    try:
        psg = config.psg if method.signs == "predicted" else None
        yield OffloadContext(
            device=device,
            psg=psg,
            gradient_bits=config.widths.gradient_bits,
            group=group,
            votes=config.combine == "vote",
            magnitudes=config.sign_scale if method.signs != "none" else "none",
        )
    finally:
        device.close()


def torch_threads(config: RunConfig) -> int:
    """Beside the native emulator's threads torch has little to do, and its own would only be in their way."""
    return 1 if config.resident and METHODS[config.method].offloads else config.threads
