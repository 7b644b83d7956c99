# SPDX-License-Identifier: Apache-2.0
"""Brevitas quantisers whose scale is a power of two, read off the largest magnitude."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from brevitas.nn import QuantIdentity
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerTensorFixedPoint,
    Uint8ActPerTensorFixedPoint,
)
from torch import Tensor, nn

from e2train.nn.parallel import Group
from e2train.numerics.scales import DivergenceError, power_of_two

__all__ = [
    "ActInt8",
    "ActUint8",
    "DivergenceError",
    "InputQuant",
    "NonFiniteInputError",
    "QuantGradient",
    "UnseenRangeWarning",
    "WeightInt8",
    "power_of_two",
    "quantise_gradient",
    "widened",
]

_T = TypeVar("_T")

_GRAD_BITS = 16
# Calls of one quantiser between a forward pass and its repetition; recurrent layers have many.
_REMEMBERED = 4096


class NonFiniteInputError(DivergenceError):
    """A layer's input that is not finite: ``args[0]`` says which, without advice."""

    def __str__(self) -> str:
        return f"{self.args[0]}; check the data and the layers before it"


class UnseenRangeWarning(UserWarning):
    """Inputs of an evaluation whose range no training has seen."""


def widened(x: Tensor) -> Tensor:
    """The same values in float32 at least: narrower floats do not hold all integers and scales in use.

    >>> [widened(torch.ones(1, dtype=kind)).dtype for kind in (torch.bfloat16, torch.float64)]
    [torch.float32, torch.float64]
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _MaxScaling(nn.Module):
    """Brevitas scaling: the power of two that the tensor's largest magnitude does not exceed."""

    def __init__(self) -> None:  # Brevitas' injector takes no inherited (*args, **kwargs)
        super().__init__()

    def forward(self, x: Tensor, threshold: Tensor) -> Tensor:
        largest = x.detach().abs().max().item() if x.numel() else 0.0
        return math.ldexp(1.0, power_of_two(largest)) / widened(threshold)


class _Decisions:
    """What a quantiser has decided for its latest inputs.

    Gradient checkpointing repeats a forward pass within the backward pass: the same inputs get the same
    decisions, and no range moves.
    """

    def __init__(self) -> None:
        self._latest: deque[tuple[float, Any]] = deque(maxlen=_REMEMBERED)

    def decide(self, seen: float, decision: Callable[[bool], _T]) -> _T:
        """``decision(True)`` may move ranges; ``seen`` is what it depends on."""
        if torch._C._current_graph_task_id() == -1:  # no backward pass is running
            self._latest.append((seen, decision(True)))
            return self._latest[-1][1]  # type: ignore[no-any-return]
        for earlier, decided in reversed(self._latest):
            if earlier == seen:
                return decided  # type: ignore[no-any-return]
        return decision(False)


class _RunningMaxScaling(nn.Module):
    """Brevitas scaling from a slowly forgetting maximum, so that evaluation sees training's scale.

    In training nothing is clipped but a maximum that is itself a power of two, by one LSB. An evaluation
    before any training takes the scale of its own input, with a warning.
    """

    def __init__(self, decay: float = 0.95) -> None:
        super().__init__()
        self.decay = decay
        self.group = Group()
        self._decisions = _Decisions()
        self.running_max: Tensor
        self.register_buffer("running_max", torch.zeros(()))

    def forward(self, x: Tensor, threshold: Tensor) -> Tensor:
        largest = x.detach().abs().amax() if x.numel() else x.new_zeros(())
        power_of_two(largest.item())  # refuses what is not finite before anything moves

        def maximum(move: bool) -> float:
            if move and self.training and (x.numel() or self.group.size > 1):
                self.running_max.copy_(torch.maximum(self.running_max * self.decay, self.group.max(largest)))
            known = self.running_max.item()
            if not known and largest.item() and not self.training:
                warnings.warn(
                    "no training step has given a quantiser such inputs, so their scale follows each batch; "
                    "load states after offload, and make copies without metadata of whole_state",
                    UnseenRangeWarning,
                    stacklevel=2,
                )
            return known or largest.item()

        decided = self._decisions.decide(largest.item(), maximum)
        return math.ldexp(1.0, power_of_two(decided)) / widened(threshold)


class _Clamp(nn.Module):
    """Brevitas clamp; what is one LSB beyond the largest integer, as a power of two is, has a gradient."""

    def __init__(self) -> None:  # Brevitas' injector takes no inherited (*args, **kwargs)
        super().__init__()

    def forward(self, x: Tensor, min_val: Tensor, max_val: Tensor) -> Tensor:
        near = torch.where(x > max_val + 1, max_val + 1, torch.where(x < min_val, min_val, x))
        return near - (near - max_val).clamp(min=0).detach()


class WeightInt8(Int8WeightPerTensorFixedPoint):  # type: ignore[misc]
    """int8 in [-127, 127], one power-of-two scale per tensor."""

    scaling_impl = _MaxScaling


class ActInt8(Int8ActPerTensorFixedPoint):  # type: ignore[misc]
    """int8 activations, one power-of-two scale per tensor."""

    scaling_impl = _RunningMaxScaling
    tensor_clamp_impl = _Clamp


class ActUint8(Uint8ActPerTensorFixedPoint):  # type: ignore[misc]
    """uint8 activations, for behind a ReLU, one power-of-two scale per tensor."""

    scaling_impl = _RunningMaxScaling
    tensor_clamp_impl = _Clamp


class InputQuant(nn.Module):
    """uint8 while no input has been negative in training, int8 from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.unsigned = QuantIdentity(act_quant=ActUint8, return_quant_tensor=True)
        self.signed = QuantIdentity(act_quant=ActInt8, return_quant_tensor=True)
        self.group = Group()
        self._decisions = _Decisions()
        self.saw_negative: Tensor
        self.register_buffer("saw_negative", torch.zeros(()))  # a float, as buffers may be averaged

    def forward(self, x: Tensor) -> Tensor:
        """Quantise; the result is a Brevitas quantised tensor."""
        smallest = x.detach().amin().item() if x.numel() else 0.0

        def signed(move: bool) -> bool:
            negative = smallest < 0
            if move and self.training and self.group.any(negative):
                self.saw_negative.fill_(1)
            return negative or bool(self.saw_negative)

        quantised: Tensor = (self.signed if self._decisions.decide(smallest, signed) else self.unsigned)(x)
        return quantised

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}saw_negative"] = self.saw_negative > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantGradient:
    """An output gradient as int16 times a power of two."""

    ints: Tensor
    scale: float
    largest: int  # magnitude, in LSBs


def quantise_gradient(gy: Tensor, group: Group | None = None, *, bits: int = _GRAD_BITS) -> QuantGradient:
    """Round a gradient to int16, halves to even, with the exponent of its largest magnitude over all ranks.

    With fewer ``bits`` only the upper ones are used. Narrow floats are widened first.

    Raises: DivergenceError when it is not finite.

    >>> quantise_gradient(torch.tensor([0.5, -0.25])).ints.tolist()
    [32767, -16384]
    >>> quantise_gradient(torch.tensor([0.5, -0.25]), bits=8).ints.tolist()
    [32512, -16384]
    """
    gy = widened(gy)
    largest_here = gy.abs().max() if gy.numel() else gy.new_zeros(())
    unused, top = _GRAD_BITS - bits, 1 << bits - 1
    exponent = power_of_two((group or Group()).max(largest_here).item()) - (_GRAD_BITS - 1)
    rounded = torch.round(gy * math.ldexp(1.0, -exponent - unused))
    ints = (rounded.clamp(-top, top - 1) * (1 << unused)).to(torch.int16)
    largest = int(ints.to(torch.int32).abs().max()) if gy.numel() else 0
    return QuantGradient(ints=ints, scale=math.ldexp(1.0, exponent), largest=largest)
