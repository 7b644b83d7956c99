# SPDX-License-Identifier: Apache-2.0
"""Counts the multiply-accumulates that stay on the host: some convolutions, and the gates of blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from e2train.devices.protocol import Counters, Mode
from e2train.nn.layers import OffloadConv2d
from e2train.nn.residual import ResidualNet
from e2train.nn.skipping import SkipPolicy
from e2train.runtime import Ledger, LedgerRow

__all__ = ["GATES", "count_host_macs"]

GATES = "gates"
"""The layer under which a ledger has all that decides which blocks run."""


def count_host_macs(model: nn.Module, ledger: Ledger) -> None:
    """Enter the convolutions of ``model`` that run on the host into the ledger, from now on, and its gates.

    The classifier is left out, in every method alike.
    """
    resident = isinstance(model, ResidualNet) and model.resident is not None
    for name, module in model.named_modules():
        offloaded = isinstance(module, OffloadConv2d) and module.host_reason is None
        if isinstance(module, nn.Conv2d) and not (offloaded or resident):
            module.register_forward_hook(_counts(name, ledger))
        elif isinstance(module, SkipPolicy):
            for part in module.modules():
                if isinstance(part, nn.Linear | nn.LSTMCell):
                    part.register_forward_hook(_counts(GATES, ledger))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    """A matrix product of a layer's forward pass, in numbers only.

    A tensor that its own hook refers to is never freed.
    """

    macs: int
    x: int  # values of x, w and y
    w: int
    y: int
    to_input: bool  # x wants its gradient
    to_weight: bool  # so does w


def _counts(name: str, ledger: Ledger) -> Callable[[nn.Module, Any, Any], None]:
    def count(module: nn.Module, args: Any, result: Any) -> None:
        products = _products(module, args, result)
        y: Tensor = result[0] if isinstance(result, tuple) else result

        def enter(mode: Mode, macs: int, *, a: int, b: int, results: int) -> None:
            counters = Counters(host_macs=macs)
            ledger.enter(
                LedgerRow(
                    name=name, mode=mode, calls=1, a_values=a, b_values=b, results=results, counters=counters
                )
            )

        def backward(_: Tensor) -> None:
            for p in products:
                if p.to_input:
                    enter("grad_input", p.macs, a=p.y, b=p.w, results=p.x)
                if p.to_weight:
                    enter("grad_weight", p.macs, a=p.x, b=p.y, results=p.w)

        for p in products:
            enter("forward", p.macs, a=p.x, b=p.w, results=p.y)
        if y.requires_grad:
            y.register_hook(backward)  # type: ignore[no-untyped-call]

    return count


def _products(module: nn.Module, args: Any, result: Any) -> list[_Product]:
    if isinstance(module, nn.LSTMCell):
        x, state = (*args, None)[:2]
        rows = len(x)
        wants = state is not None and state[0].requires_grad  # without a state, a hidden one of zeros
        return [
            _Product(
                macs=rows * w.numel(),
                x=rows * w.shape[1],
                w=w.numel(),
                y=rows * w.shape[0],
                to_input=to_input,
                to_weight=w.requires_grad,
            )
            for w, to_input in ((module.weight_ih, x.requires_grad), (module.weight_hh, wants))
        ]
    x, w, y = args[0], module.weight, result.numel()
    assert isinstance(w, Tensor)
    macs = y * w[0].numel()
    return [
        _Product(
            macs=macs, x=x.numel(), w=w.numel(), y=y, to_input=x.requires_grad, to_weight=w.requires_grad
        )
    ]
