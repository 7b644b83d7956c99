# SPDX-License-Identifier: Apache-2.0
"""The autograd function whose three convolutions run on a device."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from e2train.devices.protocol import LayerCall
from e2train.nn.context import OffloadContext
from e2train.nn.quantisers import DivergenceError, quantise_gradient

__all__ = ["OffloadedConv", "safe_shift"]

_GY_BITS = 16  # of output gradients on their way to a device


class OffloadedConv(torch.autograd.Function):
    """y = conv(x, w) on a device, with gradients from the device too.

    The float operands carry the graph; their integers are what is computed with.

    An output gradient that is not finite gives infinite gradients and runs nothing: a loss scaler skips the
    step when it sees them.

    ``call`` is the forward call with the integers, ``x_scale`` and ``w_scale`` are their scales.

    Shapes: x (N, C, H, W), w (K, C, R, S).
    Raises: NotImplementedError when the gradients are to be differentiated again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        call: LayerCall,
        x_scale: float,
        w_scale: float,
        context: OffloadContext,
    ) -> Tensor:
        ctx.save_for_backward(call.a, call.b)
        ctx.name, ctx.context = call.name, context
        ctx.backward_call = partial(LayerCall, shape=call.shape, name=call.name)
        ctx.x_scale, ctx.w_scale = x_scale, w_scale
        return context.run(call).to(x) * (x_scale * w_scale)

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        context: OffloadContext = ctx.context
        if torch.is_grad_enabled():
            # Not once_differentiable: where gy needs no gradient, its result would seem to be a constant.
            raise NotImplementedError(
                f"{ctx.name}: a convolution on a device is differentiable once, without create_graph=True; "
                "take second derivatives of a model that is not offloaded"
            )
        x_ints, w_ints = ctx.saved_tensors
        gx = gw = None
        try:
            grad = quantise_gradient(gy, context.group, bits=context.gradient_bits)
        except DivergenceError:
            gx, gw = (gy.new_full(ints.shape, math.inf) for ints in (x_ints, w_ints))
            return gx, gw, None, None, None, None
        if ctx.needs_input_grad[0]:
            shift = safe_shift(w_ints, grad.largest)
            call = ctx.backward_call(mode="grad_input", a=grad.ints, b=w_ints, shift=shift)
            gx = context.run(call).to(gy) * (grad.scale * ctx.w_scale * 2.0**shift)
        if ctx.needs_input_grad[1]:
            full = ctx.backward_call(mode="grad_weight", a=x_ints, b=grad.ints)

            def compute(x_bits: int, g_bits: int) -> Tensor:
                return context.run(full.of_high_bits(x_bits, g_bits))

            scale = ctx.x_scale * grad.scale
            gw = context.weight_gradient(ctx.name, compute, scale, gy_bits=_GY_BITS).to(gy)
        return gx, gw, None, None, None, None


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
