# SPDX-License-Identifier: Apache-2.0
"""The networks, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from e2train.nn.residual import PaddedShortcut, ResidualBlock, ResidualNet

__all__ = [
    "MODEL_NAMES",
    "ModelError",
    "build_model",
    "digits_net",
    "image_shape",
    "mobilenet_v2",
    "resnet",
    "resnet18",
]

MODEL_NAMES = (
    "digits",
    *(f"resnet{depth}" for depth in (8, 14, 20, 38, 74, 110)),
    "mobilenetv2",
    "resnet18",
)

ImageShape = tuple[int, int, int]  # C, H, W


class ModelError(ValueError):
    """A model that does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Blocks of MobileNetV2 with equal settings; the first of them has the stride."""

    expansion: int
    channels: int
    count: int
    stride: int


# The table of the paper (arXiv:1801.04381), with the strides that 32x32 images leave room for.
_MOBILENET_V2 = (
    _Stage(expansion=1, channels=16, count=1, stride=1),
    _Stage(expansion=6, channels=24, count=2, stride=1),
    _Stage(expansion=6, channels=32, count=3, stride=2),
    _Stage(expansion=6, channels=64, count=4, stride=2),
    _Stage(expansion=6, channels=96, count=3, stride=1),
    _Stage(expansion=6, channels=160, count=3, stride=2),
    _Stage(expansion=6, channels=320, count=1, stride=1),
)


def resnet(
    depth: int, *, classes: int = 10, in_channels: int = 3, widths: tuple[int, ...] = (16, 32, 64)
) -> ResidualNet:
    """CIFAR-style ResNet of depth 6n+2 with three stages (2n * len(widths) + 2 with other widths).

    Raises: ModelError when the depth does not fit.

    >>> len(resnet(20).blocks)
    9
    """
    count, rest = divmod(depth - 2, 2 * len(widths))
    if rest or count < 1:
        raise ModelError(f"a ResNet of {len(widths)} stages has depth {2 * len(widths)}n + 2, not {depth}")
    blocks, before = [], widths[0]
    for stage, width in enumerate(widths):
        for index in range(count):
            stride = 2 if stage and not index else 1
            blocks.append(_basic_block(before, width, stride=stride, projection=False))
            before = width
    stem = _conv_norm(in_channels, widths[0], 3, nn.ReLU())
    return ResidualNet(stem=stem, blocks=blocks, head=_classifier(before, classes))


def resnet18(*, classes: int = 1000, in_channels: int = 3) -> ResidualNet:
    """ResNet-18 for images of ImageNet's size, with projections where the width grows."""
    blocks, before = [], 64
    for stage, width in enumerate((64, 128, 256, 512)):
        for index in range(2):
            stride = 2 if stage and not index else 1
            blocks.append(_basic_block(before, width, stride=stride, projection=True))
            before = width
    stem = nn.Sequential(
        *_conv_norm(in_channels, 64, 7, nn.ReLU(), stride=2), nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    )
    return ResidualNet(stem=stem, blocks=blocks, head=_classifier(before, classes))


def mobilenet_v2(*, classes: int = 10, in_channels: int = 3) -> ResidualNet:
    """MobileNetV2 for 32x32 images; its depthwise convolutions are grouped."""
    blocks, before = [], 32
    for stage in _MOBILENET_V2:
        for index in range(stage.count):
            stride = stage.stride if not index else 1
            blocks.append(_inverted_block(before, stage.channels, expansion=stage.expansion, stride=stride))
            before = stage.channels
    head = nn.Sequential(*_conv_norm(before, 1280, 1, nn.ReLU6()), *_classifier(1280, classes))
    return ResidualNet(stem=_conv_norm(in_channels, 32, 3, nn.ReLU6()), blocks=blocks, head=head)


def digits_net(*, classes: int = 10, in_channels: int = 1) -> ResidualNet:
    """The network of the ``digits`` preset: 8x8 grey images, 16 and 32 channels, four residual blocks."""
    return resnet(10, classes=classes, in_channels=in_channels, widths=(16, 32))


def image_shape(name: str) -> ImageShape:
    """The shape (C, H, W) of the images that a model was made for.

    Raises: ModelError when there is no such model.

    >>> image_shape("digits")
    (1, 8, 8)
    """
    if name not in MODEL_NAMES and not re.fullmatch(r"resnet\d+", name):
        raise ModelError(f"no model {name!r}; there are: {', '.join(MODEL_NAMES)}")
    return {"digits": (1, 8, 8), "resnet18": (3, 224, 224)}.get(name, (3, 32, 32))


def build_model(
    name: str, *, classes: int | None = None, image: ImageShape | None = None
) -> tuple[ResidualNet, ImageShape]:
    """A model by name, and the shape (C, H, W) of its images: by default those that it was made for.

    Raises: ModelError when there is no such model.
    """
    image = image or image_shape(name)
    channels = image[0]
    if name == "digits":
        return digits_net(classes=classes or 10, in_channels=channels), image
    if name == "resnet18":
        return resnet18(classes=classes or 1000, in_channels=channels), image
    if name == "mobilenetv2":
        return mobilenet_v2(classes=classes or 10, in_channels=channels), image
    depth = int(name.removeprefix("resnet"))
    return resnet(depth, classes=classes or 10, in_channels=channels), image


def _conv_norm(
    in_channels: int,
    out_channels: int,
    size: int,
    activation: nn.Module | None = None,
    *,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    conv = nn.Conv2d(
        in_channels, out_channels, size, stride=stride, padding=size // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([activation] if activation else []))


def _basic_block(in_channels: int, out_channels: int, *, stride: int, projection: bool) -> ResidualBlock:
    branch = nn.Sequential(
        *_conv_norm(in_channels, out_channels, 3, nn.ReLU(), stride=stride),
        *_conv_norm(out_channels, out_channels, 3),
    )
    shortcut: nn.Module = nn.Identity()
    if stride > 1 or in_channels != out_channels:
        padded = PaddedShortcut(out_channels - in_channels, stride=stride)
        shortcut = _conv_norm(in_channels, out_channels, 1, stride=stride) if projection else padded
    return ResidualBlock(branch, shortcut=shortcut, activation=nn.ReLU())


def _inverted_block(in_channels: int, out_channels: int, *, expansion: int, stride: int) -> ResidualBlock:
    wide = in_channels * expansion
    branch = nn.Sequential(
        *(_conv_norm(in_channels, wide, 1, nn.ReLU6()) if expansion > 1 else []),
        *_conv_norm(wide, wide, 3, nn.ReLU6(), stride=stride, groups=wide),
        *_conv_norm(wide, out_channels, 1),
    )
    same = stride == 1 and in_channels == out_channels
    return ResidualBlock(branch, shortcut=nn.Identity() if same else None)


def _classifier(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
