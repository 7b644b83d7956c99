# SPDX-License-Identifier: Apache-2.0
"""A trained network as a plain Brevitas model: integers as weights, scales as constants, no device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from torch import Tensor, nn

from e2train.nn.layers import OffloadConv2d
from e2train.nn.quantities import ConvScales, Quantity
from e2train.nn.resident import quantise_weight
from e2train.nn.residual import ResidualBlock, ResidualNet
from e2train.nn.skipping import RunAll, StochasticDepth

__all__ = ["DeployedNet", "conv_scales", "deploy"]


class _FixedScaling(nn.Module):
    """Brevitas scaling: a constant."""

    def __init__(self, fixed: float) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(fixed)))

    def forward(self, x: Tensor, threshold: Tensor) -> Tensor:
        return self.scale


class _Weight(Int8WeightPerTensorFixedPoint):  # type: ignore[misc]
    scaling_impl = _FixedScaling


class _Signed(Int8ActPerTensorFixedPoint):  # type: ignore[misc]
    scaling_impl = _FixedScaling


class _Unsigned(Uint8ActPerTensorFixedPoint):  # type: ignore[misc]
    scaling_impl = _FixedScaling


class DeployedNet(nn.Module):
    """What ``ResidualNet`` computes in evaluation, every block's branch for every image.

    A gate that would have skipped a branch multiplies it by zero.
    """

    def __init__(self, net: ResidualNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Shapes: (N, C, H, W) -> logits (N, classes)."""
        net = self.net
        x = net.stem(images)
        net.policy.begin(x)
        skippable = net.skippable
        for index, block in enumerate(net.blocks):
            branch = block.branch(x)  # type: ignore[operator]
            gate = net.policy.gate(index, x) if index in skippable else None
            if gate is not None:
                branch = gate.view(-1, 1, 1, 1) * branch
            x = block.activation(branch if block.shortcut is None else block.shortcut(x) + branch)  # type: ignore[operator]
        logits: Tensor = net.head(x)
        return logits


def conv_scales(model: ResidualNet) -> dict[str, ConvScales]:
    """The scales that a trained model on a device computes with in evaluation, by convolution.

    Raises: ValueError when it has no integers, or has not seen any input yet.
    """
    if model.resident is not None:
        policy = model.policy
        if not isinstance(policy, StochasticDepth):
            return model.resident.scales()
        gates = {index: float(np.float32(policy.survival(index))) for index in model.skippable}
        return model.resident.scales(lambda index: gates.get(index, 1.0))
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, OffloadConv2d):
            found[name] = ConvScales(x=_input_of(layer, name), w=_quantity(layer.quant_weight()))
    if not found:
        raise ValueError("the model computes in float32: there are no integers")
    return found


def deploy(model: ResidualNet, scales: dict[str, ConvScales]) -> DeployedNet:
    """Turn a plain model into one of Brevitas layers with these scales, in place.

    Its weights become the integers times their scale.
    """
    for name, of in scales.items():
        parent_name, _, own = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        conv = model.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        setattr(parent, own, _quantised(conv, of))
        if of.norm is not None:
            _fix_norm(parent[int(own) + 1], *of.norm)  # type: ignore[index]
    for name, of in scales.items():
        if of.a is not None:
            _quantise_behind(model, name, of.a)
    if isinstance(model.policy, StochasticDepth) and any(of.norm for of in scales.values()):
        model.policy = RunAll()  # their batch norms give what a gate would make of it
    model.policy.eval()
    return DeployedNet(model.eval())


def _quantised(conv: nn.Conv2d, of: ConvScales) -> QuantConv2d:
    options: dict[str, Any] = {}
    if of.y is not None:
        options = {"output_quant": _act(of.y), "output_fixed": of.y.scale, "output_bit_width": of.y.bits}
    layer = QuantConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        groups=conv.groups,
        bias=of.y is not None,
        weight_quant=_Weight,
        weight_fixed=of.w.scale,
        input_quant=_act(of.x),
        input_fixed=of.x.scale,
        **options,
    )
    ints, exponent = quantise_weight(conv.weight)
    with torch.no_grad():
        layer.weight.copy_(ints.float() * 2.0**exponent)
        if of.y is not None:  # a quarter of a sum's LSB: halves round up, as on the device
            layer.bias.fill_(0.25 * of.x.scale * of.w.scale)
    return layer


@torch.no_grad()
def _fix_norm(norm: nn.BatchNorm2d, scale: Sequence[float], offset: Sequence[float]) -> None:
    """Let a batch norm compute scale*y + offset."""
    values = {"weight": scale, "bias": offset, "running_mean": [0.0], "running_var": [1.0]}
    for name, value in values.items():
        getattr(norm, name).copy_(torch.tensor(value))
    norm.eps = 0.0


def _quantise_behind(model: ResidualNet, name: str, quantity: Quantity) -> None:
    """Quantise what a stem, a block, or the convolutions of a head give."""
    quant = QuantIdentity(act_quant=_act(quantity), fixed=quantity.scale, bit_width=quantity.bits)
    part, index = name.split(".")[:2]
    if part == "blocks":
        block = model.blocks[int(index)]
        assert isinstance(block, ResidualBlock)
        block.activation = nn.Sequential(block.activation, quant)
    elif part == "stem":
        model.stem = nn.Sequential(*_layers(model.stem), quant)
    else:
        *body, pool, flatten, classifier = _layers(model.head)
        model.head = nn.Sequential(*body, quant, pool, flatten, classifier)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    assert isinstance(module, nn.Sequential)
    return iter(module)


def _act(quantity: Quantity) -> type[Any]:
    return _Signed if quantity.signed else _Unsigned


def _input_of(layer: OffloadConv2d, name: str) -> Quantity:
    quant = layer.sign_quant
    assert quant is not None  # the models' convolutions have no quantisers of their own
    kind = quant.signed if bool(quant.saw_negative) else quant.unsigned
    if not float(_running_max(kind)):
        raise ValueError(f"{name} has not seen any input in training")
    return _quantity(kind(torch.zeros(1)))


def _running_max(quant: nn.Module) -> Tensor:
    return next(value for key, value in quant.named_buffers() if key.endswith("running_max"))


def _quantity(value: Any) -> Quantity:
    return Quantity(bits=int(value.bit_width), signed=bool(value.signed), scale=float(value.scale))
