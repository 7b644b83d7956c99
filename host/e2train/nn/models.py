# SPDX-License-Identifier: Apache-2.0
"""CIFAR-style residual networks, in which every convolution is 3x3."""

from __future__ import annotations

import re

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = ["MODEL_NAMES", "ModelError", "ResNet", "ResidualBlock", "build_model", "digits_net", "resnet"]

MODEL_NAMES = ("digits", "resnet8", "resnet14", "resnet20", "resnet74", "resnet110")


class ModelError(ValueError):
    """A model that does not exist."""


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + branch(x)); the shortcut has no parameters.

    Where the picture shrinks, the shortcut takes every second pixel and pads the channels with zeros.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = out_channels - in_channels
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def shortcut(self, x: Tensor) -> Tensor:
        """Shapes: (N, C, H, W) -> (N, K, P, Q)."""
        front = self.new_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.new_channels - front))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (N, C, H, W) -> (N, K, P, Q)."""
        return F.relu(self.shortcut(x) + self.branch(x))


class ResNet(nn.Module):
    """A 3x3 stem, a stage of residual blocks per width, a classifier; later stages halve the picture."""

    def __init__(self, *, blocks: int, widths: tuple[int, ...], in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.blocks = nn.Sequential()
        before = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                self.blocks.append(ResidualBlock(before, width, stride=stride))
                before = width
        self.classifier = nn.Linear(widths[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        """Shapes: (N, C, H, W) -> logits (N, classes)."""
        features: Tensor = self.blocks(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.classifier(features)
        return logits


def resnet(
    depth: int, *, classes: int = 10, in_channels: int = 3, widths: tuple[int, ...] = (16, 32, 64)
) -> ResNet:
    """ResNet of depth 6n+2 with three stages (2n * len(widths) + 2 with other widths).

    Raises: ModelError when the depth does not fit.

    >>> len(resnet(20).blocks)
    9
    """
    blocks, rest = divmod(depth - 2, 2 * len(widths))
    if rest or blocks < 1:
        raise ModelError(f"a ResNet of {len(widths)} stages has depth {2 * len(widths)}n + 2, not {depth}")
    return ResNet(blocks=blocks, widths=widths, in_channels=in_channels, classes=classes)


def digits_net() -> ResNet:
    """The network of the ``digits`` preset: 8x8 grey pictures, 16 and 32 channels, four residual blocks."""
    return ResNet(blocks=2, widths=(16, 32), in_channels=1, classes=10)


def build_model(name: str) -> tuple[ResNet, tuple[int, int, int]]:
    """A model by name, and the shape (C, H, W) of its pictures.

    Raises: ModelError when there is no such model.
    """
    if name == "digits":
        return digits_net(), (1, 8, 8)
    if not (match := re.fullmatch(r"resnet(\d+)", name)):
        raise ModelError(f"no model {name!r}; there are: {', '.join(MODEL_NAMES)}")
    return resnet(int(match[1])), (3, 32, 32)
