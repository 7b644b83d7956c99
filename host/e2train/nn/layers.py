# SPDX-License-Identifier: Apache-2.0
"""A Brevitas convolution that computes on a device."""

from __future__ import annotations

from typing import Any

import torch
from brevitas.nn import QuantConv2d
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from e2train.devices.protocol import ConvShape, ShapeError
from e2train.nn.engine import Engine
from e2train.nn.functions import ConvJob, OffloadedConv
from e2train.nn.quantisers import InputQuant, WeightInt8

__all__ = ["OffloadConv2d"]


class OffloadConv2d(QuantConv2d):  # type: ignore[misc]
    """A quantised convolution whose forward and backward integers come from a device.

    The bias is added on the host, in float32. What the engine does not do (``host_reason``) runs on the host,
    quantised in the same way.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        engine: Engine,
        name: str = "",
        weight_quant: Any = WeightInt8,
        input_quant: Any = None,
        **conv: Any,
    ) -> None:
        """``conv`` goes to QuantConv2d; without ``input_quant`` the input is uint8 or int8 by its sign."""
        super().__init__(
            in_channels, out_channels, kernel_size, weight_quant=weight_quant, input_quant=input_quant, **conv
        )
        self.engine = engine
        self.name = name
        self.sign_quant = None if self.input_quant.is_quant_enabled else InputQuant()
        self.host_reason = _host_reason(self)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, engine: Engine, name: str) -> OffloadConv2d:
        """The same layer on a device, with the very same parameters.

        Raises: ShapeError when its quantisers are not ones that the engine can follow.
        """
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            engine=engine,
            name=name,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
        )
        if isinstance(conv, QuantConv2d):
            layer._adopt_quantisers(conv)
        layer.weight, layer.bias = conv.weight, conv.bias
        layer.train(conv.training)
        layer.to(conv.weight.device)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        """Shapes: (N, C, H, W) -> (N, K, P, Q)."""
        left, right, top, bottom = pads = self._reversed_padding_repeated_twice
        if self.padding_mode != "zeros":
            input = F.pad(input, pads, mode=self.padding_mode)
            left = right = top = bottom = 0
        x, w = self._quantised_input(input), self.quant_weight()
        if self.host_reason:
            padded = F.pad(x.value, (left, right, top, bottom))
            return F.conv2d(padded, w.value, self.bias, self.stride, 0, self.dilation, self.groups)
        N, C, H, W = x.value.shape
        K, _, R, S = w.value.shape
        shape = ConvShape(
            N=N, C=C, H=H, W=W, K=K, R=R, S=S, stride=self.stride, padding=(top, bottom, left, right)
        )
        ints = _ints(x, self.name), _ints(w, self.name)
        job = ConvJob(
            engine=self.engine,
            name=self.name,
            shape=shape,
            x_scale=x.scale.item(),
            w_scale=w.scale.item(),
        )
        y: Tensor = OffloadedConv.apply(x.value, w.value, *ints, job)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)

    def _quantised_input(self, x: Tensor | IntQuantTensor) -> IntQuantTensor:
        if isinstance(x, IntQuantTensor) and not self.input_quant.is_quant_enabled:
            return x  # an upstream quantiser has already decided
        quant = self.input_quant if self.sign_quant is None else self.sign_quant
        return quant(x)

    def _adopt_quantisers(self, conv: QuantConv2d) -> None:
        for quant in (conv.bias_quant, conv.output_quant):
            if quant.is_quant_enabled:
                raise ShapeError(f"{self.name}: bias and output quantisers are not supported; remove them")
        self.return_quant_tensor = False
        if conv.weight_quant.is_quant_enabled:
            self.weight_quant = conv.weight_quant
        if conv.input_quant.is_quant_enabled:
            self.input_quant, self.sign_quant = conv.input_quant, None


def _ints(quantised: IntQuantTensor, name: str) -> Tensor:
    """The integers of a Brevitas tensor, after a look at whether the engine can hold them."""
    if quantised.bit_width.item() > 8 or quantised.scale.numel() != 1 or bool(quantised.zero_point.any()):
        raise ShapeError(
            f"{name}: the engine takes at most 8 bits with one scale per tensor and zero point 0, not "
            f"{quantised.bit_width.item():g} bits with {quantised.scale.numel()} scales; change the quantiser"
        )
    # Brevitas' own int() cannot take an empty batch.
    ints = torch.round(quantised.value.detach() / quantised.scale)
    return ints.to(torch.int8 if quantised.signed else torch.uint8).contiguous()


def _host_reason(layer: nn.Conv2d) -> str | None:
    """Why a layer cannot go to the engine, or None."""
    if layer.groups != 1:
        return f"groups={layer.groups}"
    if set(layer.dilation) != {1}:
        return f"dilation={layer.dilation}"
    if max(layer.kernel_size) > 7:
        return f"kernel_size={layer.kernel_size}"
    if max(layer.stride) > 2:
        return f"stride={layer.stride}"
    return None
