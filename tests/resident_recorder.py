# SPDX-License-Identifier: Apache-2.0
"""A resident device that remembers what it was asked for, and float64 autograd of what it computed."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from e2train.devices.native import NativeResident
from e2train.devices.resident import Affine, Convolution, DeviceTensor, ResidentDevice
from e2train.nn import ResidualNet, describe, quantise_weight
from torch import Tensor, nn

__all__ = ["Recorder", "same_function", "tensors_of"]


class Recorder:
    """Passes everything on to a device; ``calls`` holds the calls by their order."""

    def __init__(self, device: ResidentDevice | None = None, *, memory_bytes: int | None = None) -> None:
        self.device = device or NativeResident()
        self.name, self.memory_bytes = "recorder", memory_bytes
        self.calls: list[Any] = []
        self.written: list[DeviceTensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.device, name)

    def clear(self) -> None:
        """Forget earlier calls."""
        self.calls.clear()
        self.written.clear()

    def reserve(self, nbytes: int) -> None:
        self.device.reserve(nbytes)

    def read(self, tensor: DeviceTensor) -> np.ndarray:
        return self.device.read(tensor)

    def close(self) -> None:
        self.device.close()

    def write(self, tensor: DeviceTensor, values: np.ndarray) -> None:
        self.written.append(tensor)
        self.device.write(tensor, values)

    def convolve(self, call: Any) -> Any:
        self.calls.append(call)
        return self.device.convolve(call)

    def weight_gradient(self, call: Any) -> Any:
        self.calls.append(call)
        return self.device.weight_gradient(call)

    def affine(self, call: Any) -> Any:
        self.calls.append(call)
        return self.device.affine(call)

    def reduce(self, call: Any) -> Any:
        self.calls.append(call)
        return self.device.reduce(call)


def tensors_of(call: Any) -> Iterator[DeviceTensor]:
    """All operands and results of a call."""
    for name in type(call).__dataclass_fields__:
        if isinstance(value := getattr(call, name), DeviceTensor):
            yield value


class _Given(torch.autograd.Function):
    """Replace a value by the one that the device has; its gradient passes where ``passes``."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, given: Tensor, passes: Tensor) -> Tensor:
        ctx.save_for_backward(passes)
        return given.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (passes,) = ctx.saved_tensors
        return gradient * passes, None, None


def same_function(
    model: ResidualNet, image: tuple[int, int, int], recorder: Recorder, gates: dict[int, Tensor]
) -> tuple[ResidualNet, Tensor]:
    """A copy in float64 whose activations are those of the last forward pass, with the images that it saw.

    What remains between its gradients and the device's is the rounding of gradients alone.
    """
    twin = copy.deepcopy(model)
    twin.resident = None
    twin.double()
    made, orders = defaultdict(list), {}
    for call in recorder.calls:
        if isinstance(call, Affine | Convolution):
            made[type(call), call.name].append(call)
    for conv in describe(model, image).convs:
        orders[conv.name] = np.argsort(conv.out_order)

    def given(value: Tensor, tensor: DeviceTensor, order: np.ndarray, *, relu: bool) -> Tensor:
        ints = torch.tensor(recorder.read(tensor)[:, order], dtype=torch.float64)
        real = value.detach().clamp(min=0) if relu else value.detach()
        exponent = torch.log2(real.norm() / ints.norm()).round()
        return _Given.apply(value, ints * 2.0**exponent, ints > 0 if relu else torch.ones_like(ints))

    def follow(name: str, part: nn.Sequential, conv: int) -> None:
        """Give the results of a convolution, and those behind the ReLU that ends its batch norm."""
        y = made[Convolution, name][-1].destination
        part[conv].register_forward_hook(lambda module, args, out: given(out, y, orders[name], relu=False))
        if conv + 2 < len(part):
            a = made[Affine, name][-1].out
            part[conv + 2].register_forward_hook(
                lambda module, args, out: given(args[0], a, orders[name], relu=True)
            )

    def follow_block(index: int, x: DeviceTensor) -> DeviceTensor:
        """Give the results of a block; those of samples that skip it stay where they were, or move."""
        name, block = f"blocks.{index}.branch.3", twin.blocks[index]
        kept = gates.get(index, torch.ones(x.N)).detach() != 0
        last = {call.v is not None: call.out for call in made[Affine, name]}
        out = last.get(True, last.get(False))
        offsets = x.offsets.copy()
        if kept.any():
            offsets[kept.numpy()] = last[True].offsets
            follow(f"blocks.{index}.branch.0", block.branch, 0)
            follow(name, block.branch, 3)
        if False in last:
            offsets[~kept.numpy()] = last[False].offsets
        tensor = x if out is None else DeviceTensor(kind=out.kind, C=out.C, H=out.H, W=out.W, offsets=offsets)
        block.activation.register_forward_hook(
            lambda module, args, result: given(args[0], tensor, orders[name], relu=True)
        )
        return tensor

    _round_weights(twin)
    follow("stem.0", twin.stem, 0)
    x = made[Affine, "stem.0"][-1].out
    for index in range(len(twin.blocks)):
        x = follow_block(index, x)
    seen = recorder.read(recorder.written[0]).astype(np.float64)
    return twin, torch.tensor(seen)


def _round_weights(model: ResidualNet) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            ints, exponent = quantise_weight(module.weight)
            module.weight.data = ints.double() * 2.0**exponent
