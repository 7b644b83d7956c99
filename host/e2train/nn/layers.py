# SPDX-License-Identifier: Apache-2.0
"""A Brevitas convolution that computes on a device."""

from __future__ import annotations

import math
from typing import Any

import torch
from brevitas.nn import QuantConv2d
from brevitas.nn.mixin import QuantWeightMixin
from brevitas.nn.quant_layer import QuantWeightBiasInputOutputLayer
from brevitas.quant_tensor import IntQuantTensor, QuantTensor
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.utils import _pair
from torch.nn.utils import parametrize

from e2train.devices.protocol import ConvShape, LayerCall, ShapeError
from e2train.nn.context import OffloadContext
from e2train.nn.functions import OffloadedConv
from e2train.nn.padding import zeros_around
from e2train.nn.parallel import share
from e2train.nn.quantiser_checks import check_values, integers
from e2train.nn.quantisers import DivergenceError, InputQuant, NonFiniteInputError, WeightInt8, widened

__all__ = ["OffloadConv2d", "host_reason", "refuse_tracing"]

_RANGES = "ranges"  # in a layer's part of a state dict's metadata


class OffloadConv2d(QuantConv2d):  # type: ignore[misc]
    """A quantised convolution whose forward and backward integers come from a device.

    The bias is added on the host, in float32 or float64. What the engine does not do (``host_reason``) runs
    on the host, quantised in the same way.

    A state dict has the entries of the convolution that the layer was made from, so that each loads the
    other's. The ranges of inputs seen so far are in its metadata, which ``torch.save`` keeps; a state dict
    without them starts new ranges, unless it has nothing at all of the layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        context: OffloadContext,
        name: str = "",
        weight_quant: Any = WeightInt8,
        input_quant: Any = None,
        **conv: Any,
    ) -> None:
        """``conv`` goes to QuantConv2d; without ``input_quant`` the input is uint8 or int8 by its sign."""
        super().__init__(
            in_channels, out_channels, kernel_size, weight_quant=weight_quant, input_quant=input_quant, **conv
        )
        self._set_up(context, name)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, context: OffloadContext, name: str) -> OffloadConv2d:
        """Turn a plain Conv2d or QuantConv2d into this layer, in place.

        Its parameters, hooks, parametrisations and all references to it stay.
        """
        quantised = isinstance(conv, QuantConv2d)
        kind = type(conv)
        # A parametrised module has a class of its own, derived from the plain one.
        own = parametrize.is_parametrized(conv)
        conv.__class__ = type(kind.__name__, (cls,), dict(vars(kind))) if own else cls
        assert isinstance(conv, OffloadConv2d)
        if not quantised:
            QuantWeightBiasInputOutputLayer.__init__(
                conv,
                weight_quant=WeightInt8,
                bias_quant=None,
                input_quant=None,
                output_quant=None,
                return_quant_tensor=False,
            )
            conv.is_same_padded_strided = False
        elif not conv.weight_quant.is_quant_enabled:
            QuantWeightMixin.__init__(conv, weight_quant=WeightInt8)
        conv.return_quant_tensor = False
        conv._set_up(context, name)
        conv.train(conv.training)
        conv.to(conv.weight.device)
        return conv

    def _set_up(self, context: OffloadContext, name: str) -> None:
        self.context = context
        self.name = name
        self.sign_quant = None if self.input_quant.is_quant_enabled else InputQuant()

    @property
    def host_reason(self) -> str | None:
        """Why the layer computes on the host, or None."""
        return host_reason(self)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor | QuantTensor) -> Tensor:
        """Shapes: (N, C, H, W) -> (N, K, P, Q), or both without N."""
        refuse_tracing(self.name)
        value: Tensor = input.value if isinstance(input, QuantTensor) else input
        if value.ndim not in (3, 4) or value.shape[-3] != self.in_channels:
            C = self.in_channels
            raise ShapeError(
                f"{self.name}: the input is {tuple(value.shape)}, must be (N, {C}, H, W) or ({C}, H, W)"
            )
        if value.ndim == 4:
            return self._batch(input)
        one = value.unsqueeze(0)
        return self._batch(input.set(value=one) if isinstance(input, QuantTensor) else one).squeeze(0)

    def _batch(self, input: Tensor | QuantTensor) -> Tensor:
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        x, w = self._quantised_input(input), self._quantised_weight()
        dtype = torch.promote_types(x.value.dtype, w.value.dtype)
        y = (self._on_host if self.host_reason else self._on_device)(x, w, dtype)
        given = input.value.dtype if isinstance(input, QuantTensor) else input.dtype
        return y.to(given) if given.is_floating_point else y

    def _on_host(self, x: IntQuantTensor, w: IntQuantTensor, dtype: torch.dtype) -> Tensor:
        padded = F.pad(x.value.to(dtype), self._zeros(*x.value.shape[-2:]))
        bias = None if self.bias is None else self.bias.to(dtype)
        with torch.autocast(padded.device.type, enabled=False):  # narrower floats do not hold the products
            return F.conv2d(padded, w.value.to(dtype), bias, self.stride, 0, self.dilation, self.groups)

    def _on_device(self, x: IntQuantTensor, w: IntQuantTensor, dtype: torch.dtype) -> Tensor:
        self._check_high_bits(x)
        N, C, H, W = x.value.shape
        K, _, R, S = w.value.shape
        left, right, top, bottom = self._zeros(H, W)
        shape = ConvShape(
            N=N, C=C, H=H, W=W, K=K, R=R, S=S, stride=_pair(self.stride), padding=(top, bottom, left, right)
        )
        ints = integers(x, self.name, "input"), integers(w, self.name, "weight")
        call = LayerCall(mode="forward", shape=shape, a=ints[0], b=ints[1], name=self.name)
        y: Tensor = OffloadedConv.apply(  # type: ignore[no-untyped-call]
            x.value.to(dtype), w.value.to(dtype), call, x.scale.item(), w.scale.item(), self.context
        )
        return y if self.bias is None else y + self.bias.view(1, -1, 1, 1)

    def _check_high_bits(self, x: IntQuantTensor) -> None:
        """Raises: ShapeError where all that PSG predicts weight gradients from would be zero."""
        psg = self.context.psg
        if psg is None or psg.mode == "resolve" or not (self.training and self.weight.requires_grad):
            return
        bits = int(x.bit_width)
        if 2 ** (bits - bool(x.signed)) <= 2 ** (7 - psg.x_bits):  # rounded down
            raise ShapeError(
                f"{self.name}: the input has {bits} bits, and PSG predicts from the {psg.x_bits} highest of "
                "8, which are all zero; use a quantiser of more bits, or psg_mode resolve"
            )

    def _zeros(self, H: int, W: int) -> list[int]:
        """How many zeros go around an input: left, right, top, bottom."""
        if self.padding_mode != "zeros":
            return [0, 0, 0, 0]
        if not self.is_same_padded_strided:  # Brevitas' padding "same" at a stride above 1
            return list(zeros_around(self))
        zeros = []
        for size, kernel, stride, dilation in zip(
            (W, H), self.kernel_size[::-1], _pair(self.stride)[::-1], _pair(self.dilation)[::-1], strict=True
        ):
            total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            zeros += [total // 2, total - total // 2]
        return zeros

    def _quantised_input(self, input: Tensor | QuantTensor) -> IntQuantTensor:
        x = widened(input.value if isinstance(input, QuantTensor) else input)
        if not math.isfinite(largest := _largest(x)):
            raise NonFiniteInputError(f"{self.name}: the input holds {largest}")
        if self.context.group.size > 1:
            share(self, self.context.group)  # loading a state has rebuilt what Brevitas made
        if self.sign_quant is None:
            return self._switched_on(self.input_quant(x), "input")
        if isinstance(input, IntQuantTensor):
            if self.host_reason is None:
                check_values(input, self.name)
            return input  # an upstream quantiser has already decided
        return self.sign_quant(x)

    def _quantised_weight(self) -> IntQuantTensor:
        weight = widened(self.weight)
        if not math.isfinite(largest := _largest(weight)):
            raise DivergenceError(
                f"{self.name}: the weights have grown to {largest}: training diverged; use a smaller --lr"
            )
        return self._switched_on(self.weight_quant(weight), "weight")

    def _switched_on(self, found: Tensor | QuantTensor, which: str) -> IntQuantTensor:
        """What a quantiser gave, if it gave integers with a scale."""
        if not isinstance(found, IntQuantTensor):
            raise ShapeError(
                f"{self.name}: the {which} quantiser is switched off, and the device computes on integers; "
                "calibrate before offload"
            )
        return found

    def state_dict(self, *args: Any, prefix: str = "", **options: Any) -> dict[str, Any]:
        """The entries of the layer's state; the ranges seen so far are in its metadata."""
        prefix = args[1] if len(args) > 1 else prefix
        options |= dict(zip(("destination", "prefix", "keep_vars"), args, strict=False))
        state: dict[str, Any] = super().state_dict(**{"prefix": prefix} | options)
        if self.sign_quant is not None:
            ranges = {key: state.pop(prefix + key) for key in self.ranges()}
            getattr(state, "_metadata", {}).get(prefix[:-1], {})[_RANGES] = ranges
        return state

    def ranges(self) -> dict[str, Tensor]:
        """What the layer has added to the state of its convolution, by name."""
        return {} if self.sign_quant is None else self.sign_quant.state_dict(prefix="sign_quant.")

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        others = any(key.startswith(prefix) for key in state_dict)  # weights, whose ranges are others
        saved = local_metadata.get(_RANGES, {}) if others else {}
        for key, own in self.ranges().items():
            value = state_dict.get(prefix + key, saved.get(key, torch.zeros_like(own) if others else own))
            state_dict[prefix + key] = value.float() if value.dtype == torch.bool else value
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def _largest(x: Tensor) -> float:
    return x.detach().abs().amax().item() if x.numel() else 0.0


def host_reason(layer: nn.Conv2d) -> str | None:
    """Why a layer cannot go to the engine, or None."""
    if layer.groups != 1:
        return f"groups={layer.groups}"
    if set(_pair(layer.dilation)) != {1}:
        return f"dilation={layer.dilation}"
    if max(layer.kernel_size) > 7:
        return f"kernel_size={layer.kernel_size}"
    if max(_pair(layer.stride)) > 2:
        return f"stride={layer.stride}"
    return None


def refuse_tracing(name: str) -> None:
    """Raises: NotImplementedError where torch records operations, which a device's are not."""
    exporting = getattr(torch.compiler, "is_exporting", bool)  # torch before 2.7 cannot tell
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        by = "torch.jit.trace"
    elif exporting():
        by = "torch.export"
    elif torch._C._are_functorch_transforms_active():
        by = "torch.func (vmap, grad and others)"
    else:
        return
    raise NotImplementedError(
        f"{name}: {by} cannot follow a convolution on a device; use it on a model that is not offloaded"
    )
