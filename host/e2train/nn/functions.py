# SPDX-License-Identifier: Apache-2.0
"""The autograd function whose three convolutions run on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from e2train.devices.protocol import ConvShape, LayerCall, Mode
from e2train.nn.engine import Engine
from e2train.nn.quantisers import quantise_gradient

__all__ = ["ConvJob", "OffloadedConv", "safe_shift"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvJob:
    """One layer's integers on their way to a device: real = integers * scale."""

    engine: Engine
    name: str
    shape: ConvShape
    x: Tensor  # (N, C, H, W) uint8 or int8
    w: Tensor  # (K, C, R, S) int8
    x_scale: float
    w_scale: float

    def run(self, mode: Mode, a: Tensor, b: Tensor, shift: int = 0) -> Tensor:
        """The device's integers, as float32 on the operands' torch device."""
        return self._float(self.engine.run(self._call(mode, a, b, shift)))

    def weight_gradient(self, gy: Tensor, gy_scale: float) -> Tensor:
        """The weights' gradient, or its signs where the engine predicts them."""
        call = self._call("grad_weight", self.x, gy)
        if self.engine.psg is not None:
            return self._float(self.engine.signs(call, self.engine.psg))
        if self.engine.votes:
            return self._float(self.engine.group.vote(self.engine.run(call).sign()))
        return self._float(self.engine.total(call)) * (self.x_scale * gy_scale)

    def _call(self, mode: Mode, a: Tensor, b: Tensor, shift: int = 0) -> LayerCall:
        return LayerCall(mode=mode, shape=self.shape, a=a, b=b, shift=shift, name=self.name)

    def _float(self, ints: Tensor) -> Tensor:
        return ints.to(device=self.x.device, dtype=torch.float32)


class OffloadedConv(torch.autograd.Function):
    """y = conv(x, w) on a device, with gradients from the device too.

    The float operands carry the graph; the integers in the job are what is computed with.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, job: ConvJob) -> Tensor:
        ctx.job = job
        return job.run("forward", job.x, job.w) * (job.x_scale * job.w_scale)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        job: ConvJob = ctx.job
        gx = gw = None
        grad = quantise_gradient(gy, job.engine.group)
        if ctx.needs_input_grad[0]:
            shift = safe_shift(job.w, grad.largest)
            gx = job.run("grad_input", grad.ints, job.w, shift)
            gx = gx * (grad.scale * job.w_scale * 2.0**shift)
        if ctx.needs_input_grad[1]:
            gw = job.weight_gradient(grad.ints, grad.scale)
        return gx, gw, None


def safe_shift(w: Tensor, largest: int) -> int:
    """The smallest shift with which no input gradient can leave int32, whatever gy holds.

    Shapes: w (K, C, R, S); ``largest`` is gy's largest magnitude.

    >>> safe_shift(torch.full((600, 1, 3, 3), 127, dtype=torch.int8), 32768)
    4
    """
    per_channel = w.to(torch.int32).abs().sum(dim=(0, 2, 3))
    bound, shift = largest * int(per_channel.max()), 0
    while (bound + (1 << shift >> 1)) >> shift > (1 << 31) - 1:
        shift += 1
    return shift
