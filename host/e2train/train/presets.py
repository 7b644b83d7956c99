# SPDX-License-Identifier: Apache-2.0
"""Presets: a data set with a model, and the settings that suit them."""

from __future__ import annotations

from pathlib import Path

from e2train.train.data import DataError, Split, cifar_split, digits_split, folder_split

__all__ = ["MODELS", "PRESET_NAMES", "SETTINGS", "load_split"]

_CIFAR_MODELS = (*(f"resnet{depth}" for depth in (8, 14, 20, 38, 74, 110)), "mobilenetv2")

# Preset -> model.
MODELS = {
    "digits": "digits",
    **{f"cifar{classes}-{model}": model for classes in (10, 100) for model in _CIFAR_MODELS},
    "imagenet-resnet18": "resnet18",
}
PRESET_NAMES = tuple(MODELS)

# The paper's: batch 128, learning rate 0.1 cut to a tenth at half and at three quarters of 64,000 steps.
_CIFAR = {"batch": 128, "steps": 64_000, "schedule": "steps", "warmup": 0.0, "threads": 2}
_SIGNED = {"sign_lr": 7e-4}  # in 1,000 steps of ResNet-14 as good as 0.0004, better than 0.0015 and more
SETTINGS: dict[str, dict[str, object]] = {
    "digits": {"label_smoothing": 0.1, "sign_lr": 0.006, "gate_weight": 10.0},
    **{name: _CIFAR | _SIGNED for name in PRESET_NAMES if name.startswith("cifar")},
    "imagenet-resnet18": {"batch": 256, "epochs": 90, "schedule": "steps", "warmup": 0.0, "threads": 2},
}


def load_split(preset: str, data: str) -> Split:
    """The data of a preset; ``data`` is the folder where it lies, which digits have no need of.

    Raises: DataError when it is not there.
    """
    if preset == "digits":
        return digits_split()
    if not data:
        raise DataError(f"{preset} needs its data: give the folder where it lies with --data DIR")
    if preset.startswith("imagenet"):
        return folder_split(Path(data), size=224)
    return cifar_split(Path(data), classes=100 if preset.startswith("cifar100") else 10)
