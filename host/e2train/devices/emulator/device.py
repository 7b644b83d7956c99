# SPDX-License-Identifier: Apache-2.0
"""A tensor device that computes what the engine would, in torch."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

from e2train.devices.emulator import plain, single
from e2train.devices.protocol import Closing, Counters, LayerCall, LayerResult

__all__ = ["Emulator"]


class Emulator(Closing):
    """Exact integer convolutions on whatever device the operands lie on.

    On an x86-64 CPU the sums run in float32, cut to where it is exact; anywhere else, CUDA included, in
    float64 matrix products. NumPy operands give a NumPy result, torch ones a tensor.
    """

    name = "emulator"

    def __init__(self, *, fast: bool | None = None) -> None:
        """``fast=False`` forbids float32; by default it serves where it is exact."""
        self._fast = fast_is_exact() if fast is None else fast

    def compute(self, call: LayerCall) -> LayerResult:
        """Compute one call.

        Raises: ValueError where the operands lie on different devices.
        """
        a, b = _tensor(call.a), _tensor(call.b)
        if a.device != b.device:
            raise ValueError(f"{call.label}: operands on {a.device} and {b.device}; move them to one device")
        with (
            torch.no_grad(),
            torch.backends.nnpack.flags(enabled=False),  # its Winograd is not exact
            torch.autocast(a.device.type, enabled=False),
        ):
            value, saturations = self._dispatch(call, a, b)
        return LayerResult(
            value=value.numpy() if isinstance(call.a, np.ndarray) else value,
            saturations=saturations,
            counters=Counters(macs=call.shape.macs),
        )

    def _dispatch(self, call: LayerCall, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, int]:
        fast = self._fast and a.device.type == "cpu"
        if call.mode == "forward":
            return (single.forward if fast else plain.forward)(a, b, call.shape), 0
        if call.mode == "grad_input":
            return (single.grad_input if fast else plain.grad_input)(a, b, call.shape, call.shift)
        if call.mode == "grad_msb":
            x = plain.keep_high(a, bits=8, kept=call.x_bits)
            gy = plain.keep_high(b, bits=16, kept=call.g_bits)
            return (single.grad_msb if fast else plain.grad_weight)(x, gy, call.shape), 0
        return (single.grad_weight if fast else plain.grad_weight)(a, b, call.shape), 0


def fast_is_exact() -> bool:
    """Whether this CPU's float32 convolutions are plain multiply-add: true of oneDNN on x86-64."""
    return platform.machine().lower() in ("x86_64", "amd64") and torch._C._has_mkldnn


def _tensor(operand: Any) -> torch.Tensor:
    if isinstance(operand, torch.Tensor):
        return operand.detach()
    return torch.from_numpy(np.require(operand, requirements=["C", "W"]))
