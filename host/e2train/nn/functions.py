# SPDX-License-Identifier: Apache-2.0
"""The autograd function whose three convolutions run on a device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from e2train.devices.protocol import ConvShape, LayerCall, Mode
from e2train.nn.engine import Engine
from e2train.nn.quantisers import DivergenceError, quantise_gradient

__all__ = ["ConvJob", "OffloadedConv", "safe_shift"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvJob:
    """One layer on its way to a device: real = integers * scale."""

    engine: Engine
    name: str
    shape: ConvShape
    x_scale: float
    w_scale: float
    dtype: torch.dtype = torch.float32  # of the real numbers

    def run(self, mode: Mode, a: Tensor, b: Tensor, shift: int = 0) -> Tensor:
        """The device's integers, as floats on the operands' torch device."""
        return self._real(self.engine.run(self._call(mode, a, b, shift)), a)

    def weight_gradient(self, x: Tensor, gy: Tensor, gy_scale: float) -> Tensor:
        """The weights' gradient, or its signs where the engine predicts or votes on them."""
        full = self._call("grad_weight", x, gy)

        def compute(x_bits: int, g_bits: int) -> Tensor:
            return self.engine.run(full.of_high_bits(x_bits, g_bits))

        return self._real(self.engine.weight_gradient(self.name, compute, self.x_scale * gy_scale), x)

    def _real(self, ints: Tensor, operand: Tensor) -> Tensor:
        return ints.to(device=operand.device, dtype=self.dtype)

    def _call(self, mode: Mode, a: Tensor, b: Tensor, shift: int = 0) -> LayerCall:
        return LayerCall(mode=mode, shape=self.shape, a=a, b=b, shift=shift, name=self.name)


class OffloadedConv(torch.autograd.Function):
    """y = conv(x, w) on a device, with gradients from the device too.

    The float operands carry the graph; their integers are what is computed with.

    An output gradient that is not finite gives infinite gradients and runs nothing: a loss scaler skips the
    step when it sees them.

    Shapes: x (N, C, H, W), w (K, C, R, S); x_ints uint8 or int8, w_ints int8.
    Raises: NotImplementedError when the gradients are to be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, x_ints: Tensor, w_ints: Tensor, job: ConvJob) -> Tensor:
        ctx.save_for_backward(x_ints, w_ints)
        ctx.job = job
        return job.run("forward", x_ints, w_ints) * (job.x_scale * job.w_scale)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        job: ConvJob = ctx.job
        if torch.is_grad_enabled():
            # Not once_differentiable: where gy needs no gradient, its result would seem to be a constant.
            raise NotImplementedError(
                f"{job.name}: a convolution on a device is differentiable once, without create_graph=True; "
                "take second derivatives of a model that is not offloaded"
            )
        x_ints, w_ints = ctx.saved_tensors
        gx = gw = None
        try:
            grad = quantise_gradient(gy, job.engine.group, bits=job.engine.gradient_bits)
        except DivergenceError:
            gx, gw = (gy.new_full(ints.shape, math.inf) for ints in (x_ints, w_ints))
            return gx, gw, None, None, None
        if ctx.needs_input_grad[0]:
            shift = safe_shift(w_ints, grad.largest)
            gx = job.run("grad_input", grad.ints, w_ints, shift)
            gx = gx * (grad.scale * job.w_scale * 2.0**shift)
        if ctx.needs_input_grad[1]:
            gw = job.weight_gradient(x_ints, grad.ints, grad.scale)
        return gx, gw, None, None, None


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
