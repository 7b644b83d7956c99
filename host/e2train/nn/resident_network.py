# SPDX-License-Identifier: Apache-2.0
"""A residual network of torch as a program on a device sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from e2train.devices import ShapeError
from e2train.nn.models import ImageShape
from e2train.nn.residual import PaddedShortcut, ResidualBlock, ResidualNet
from e2train.nn.trace import conv_shape
from e2train.runtime.resident import Activation, BlockSpec, ConvNorm, Network, Shortcut, padded_order

__all__ = ["ResidentError", "describe"]

Order = NDArray[np.int64]

_ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Identity: "none",
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
}
_AVERAGES = [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]


class ResidentError(ValueError):
    """A model that cannot stay on a device."""


def describe(model: ResidualNet, image: ImageShape) -> Network:
    """A model as a program on a device sees it: its stem, blocks, and what its head has before the averages.

    Raises: ResidentError when it has layers that such a program cannot follow.
    """
    names = {module: name for name, module in model.named_modules()}
    stem = _branch(model.stem, "its stem", names, image, np.arange(image[0]))
    found = [BlockSpec(name="stem", index=None, convs=stem, shortcut="none", stage=0)]
    for index, block in enumerate(model.blocks):
        if type(block) is not ResidualBlock:
            raise ResidentError(_refusal(f"block {index} ({type(block).__name__})"))
        found.append(_block(block, index, names, found[-1]))
    head = list(model.head) if isinstance(model.head, nn.Sequential) else []
    if [type(part) for part in head[-3:]] != _AVERAGES or head[-3].output_size not in (1, (1, 1)):
        raise ResidentError(_refusal("its head"))
    if head[:-3]:
        last = found[-1]
        convs = _branch(nn.Sequential(*head[:-3]), "its head", names, _result(last), last.last.out_order)
        found.append(BlockSpec(name="head", index=None, convs=convs, shortcut="none", stage=last.stage + 1))
    _check_once([conv.name for block in found for conv in block.convs])
    return Network(blocks=tuple(_frozen(block) if _part(block) in model.frozen else block for block in found))


def _check_once(names: list[str]) -> None:
    """Raises: ResidentError when a convolution comes twice, whose gradients would have to be added up."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise ResidentError(
            f"{twice[0]} is used more than once: resident runs take each convolution once; "
            "use --set execution=offload"
        )


def _part(block: BlockSpec) -> str:
    """The part of the model that a block is."""
    return block.name if block.index is None else f"blocks.{block.index}"


def _frozen(block: BlockSpec) -> BlockSpec:
    return replace(block, convs=tuple(replace(conv, frozen=True) for conv in block.convs))


def _block(block: ResidualBlock, index: int, names: dict[nn.Module, str], before: BlockSpec) -> BlockSpec:
    what, shortcut_is = f"block {index}", f"the shortcut of block {index}"
    convs = _branch(block.branch, what, names, _result(before), before.last.out_order)
    last, behind = convs[-1], _ACTIVATIONS.get(type(block.activation))
    if behind is None or "none" not in (last.activation, behind):
        raise ResidentError(_refusal(what))
    activation = last.activation if behind == "none" else behind
    shortcut, order = _shortcut(block, before, last, shortcut_is)
    # A skipped sample keeps its integers: an activation behind the sum must change nothing in them.
    follows = last.activation == "none" and activation == before.last.activation
    if (shortcut != "none" and not follows) or (last.depthwise and list(order) != list(last.out_order)):
        raise ResidentError(_refusal(shortcut_is))
    return BlockSpec(
        name=str(index),
        index=index,
        convs=(*convs[:-1], replace(last, activation=activation, out_order=order)),
        shortcut=shortcut,
        stage=before.stage + (shortcut != "identity"),
    )


def _shortcut(block: ResidualBlock, before: BlockSpec, last: ConvNorm, what: str) -> tuple[Shortcut, Order]:
    """A block's shortcut, and the order of the channels behind it."""
    shortcut, order, (C, H, W) = block.shortcut, before.last.out_order, _result(before)
    if shortcut is None:
        return "none", last.out_order
    K, P, Q = _shape(last)
    if type(shortcut) is nn.Identity and (K, P, Q) == (C, H, W):
        return "identity", order
    if type(shortcut) is PaddedShortcut:
        fits = C + shortcut.front + shortcut.back == K and (P, Q) == (-(-H // 2), -(-W // 2))
        if shortcut.stride == 2 and fits and min(shortcut.front, shortcut.back) >= 0:
            return "strided", padded_order(order, front=shortcut.front, channels=K)
    raise ResidentError(_refusal(what))


def _branch(
    module: nn.Module, what: str, names: dict[nn.Module, str], image: ImageShape, order: Order
) -> tuple[ConvNorm, ...]:
    """Convolutions with batch norm in a row, each with or without an activation behind it."""
    groups: list[list[nn.Module]] = []
    for part in module if isinstance(module, nn.Sequential) else [module]:
        if isinstance(part, nn.Conv2d) or not groups:
            groups.append([])
        groups[-1].append(part)
    found: list[ConvNorm] = []
    for conv, *behind in groups:
        kinds = [type(part) for part in behind]
        activation = _ACTIVATIONS.get(kinds[1]) if kinds[1:] else "none"
        if type(conv) is not nn.Conv2d or kinds[:1] != [nn.BatchNorm2d] or kinds[2:] or activation is None:
            raise ResidentError(_refusal(what))
        if not (behind[0].affine and behind[0].track_running_stats):
            raise ResidentError(
                f"the batch norm behind {names[conv]} needs affine=True and track_running_stats=True in "
                "resident runs"
            )
        found.append(_conv_norm(names[conv], conv, image, order, activation))
        image, order = _shape(found[-1]), found[-1].out_order
    if not found:
        raise ResidentError(_refusal(what))
    return tuple(found)


def _conv_norm(
    name: str, conv: nn.Conv2d, image: ImageShape, order: Order, activation: Activation
) -> ConvNorm:
    depthwise = conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels
    groups_fit = conv.groups == 1 or depthwise
    if not groups_fit or conv.dilation != (1, 1) or conv.bias is not None or conv.padding_mode != "zeros":
        raise ResidentError(_refusal(name))
    try:
        shape = conv_shape(conv, (1, *image))
    except ShapeError as error:
        raise ResidentError(f"{_refusal(name)} ({error})") from None
    return ConvNorm(
        name=name,
        shape=shape,
        depthwise=depthwise,
        activation=activation,
        in_order=order,
        out_order=order if depthwise else np.arange(conv.out_channels),
    )


def _result(block: BlockSpec) -> ImageShape:
    return _shape(block.last)


def _shape(conv: ConvNorm) -> ImageShape:
    """Of what a convolution gives."""
    return conv.shape.K, conv.shape.P, conv.shape.Q


def _refusal(what: str) -> str:
    return (
        f"{what} cannot stay on the device: resident runs take plain and depthwise convolutions with batch "
        "norm and ReLU, ReLU6 or no activation, and shortcuts without parameters; use --set execution=offload"
    )
