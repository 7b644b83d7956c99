# SPDX-License-Identifier: Apache-2.0
"""Which Brevitas quantisers the engine can follow, and the integers that they give."""

from __future__ import annotations

import warnings

import torch
from brevitas.core.zero_point import ZeroZeroPoint
from brevitas.nn import QuantConv2d
from brevitas.quant_tensor import IntQuantTensor
from torch import Tensor, nn

from e2train.devices.protocol import ShapeError
from e2train.nn.quantisers import UnseenRangeWarning, widened

__all__ = ["check_quantisers", "check_values", "integers"]

_LAST_BITS = 8


@torch.no_grad()
def check_quantisers(conv: QuantConv2d, name: str, *, on_device: bool) -> None:
    """Try the quantisers of a convolution; one that will not be ``on_device`` may scale its weights freely.

    Raises: ShapeError when one of them gives what the engine cannot compute with.
    """
    for quant in (conv.bias_quant, conv.output_quant):
        if quant.is_quant_enabled:
            raise ShapeError(f"{name}: bias and output quantisers are not supported; remove them")
    if not on_device:
        return
    weight = widened(conv.weight).clone()  # a binary quantiser clamps what it is given
    sample = torch.linspace(-1, 1, conv.in_channels * 64).reshape(1, -1, 8, 8).to(weight)
    for role, quant, values in (("weight", conv.weight_quant, weight), ("input", conv.input_quant, sample)):
        if not quant.is_quant_enabled:
            continue
        training = quant.training
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnseenRangeWarning)  # nothing was seen yet
            quantised = quant.eval()(values)  # in training, ranges would move
        quant.train(training)
        ints = integers(quantised, name, role)
        if not torch.equal(ints * widened(quantised.scale), widened(quantised.value)):
            _refuse(name, role, "values between its integers")
        if any(_may_move_zero(module) for module in quant.modules()):
            _refuse(name, role, "a zero point")


def integers(quantised: IntQuantTensor, name: str, role: str) -> Tensor:
    """The integers of a Brevitas tensor, the ``role`` "input" or "weight" of the layer ``name``.

    Raises: ShapeError when the engine cannot hold them.
    """
    if not isinstance(quantised, IntQuantTensor):
        _refuse(name, role, f"a {type(quantised).__name__}")
    if quantised.bit_width.item() > 8:
        _refuse(name, role, f"{quantised.bit_width.item():g} bits")
    if quantised.scale.numel() != 1:
        _refuse(name, role, f"{quantised.scale.numel()} scales")
    if bool(quantised.zero_point.any()):
        _refuse(name, role, "a zero point")
    if role == "weight" and not quantised.signed:
        _refuse(name, role, "no sign")
    # Brevitas' own int() cannot take an empty batch.
    ints = torch.round(widened(quantised.value.detach()) / widened(quantised.scale))
    return ints.to(torch.int8 if quantised.signed else torch.uint8).contiguous()


def check_values(quantised: IntQuantTensor, name: str) -> None:
    """Make sure that what comes to the layer ``name`` is still what a quantiser gave.

    Raises: ShapeError where values are not its integers times its scale, as behind dropout.
    """
    value = quantised.value.detach()
    ints, counted = integers(quantised, name, "input"), widened(value) / widened(quantised.scale)
    if not value.numel():
        return
    # Sums and means of quantised values are as many last bits off; narrow floats may round by a whole LSB.
    tolerance = _LAST_BITS * 256 * torch.finfo(value.dtype).eps
    if not torch.equal(counted.round(), ints.to(counted.dtype)) or (counted - ints).abs().max() > tolerance:
        raise ShapeError(
            f"{name}: the Brevitas tensor that comes in has values that are not 8-bit integers times its "
            "scale, as behind dropout; quantise once more before the layer, or give it the tensor's .value"
        )


def _may_move_zero(module: nn.Module) -> bool:
    return not isinstance(getattr(module, "zero_point_impl", None), ZeroZeroPoint | None)


def _refuse(name: str, role: str, found: str) -> None:
    raise ShapeError(
        f"{name}: the {role} quantiser gives {found}, but the engine takes integers of at most 8 bits "
        "(weights with a sign), one scale per tensor and zero point 0; change the quantiser"
    )
