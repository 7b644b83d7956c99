# SPDX-License-Identifier: Apache-2.0
"""Counts the multiply-accumulates that stay on the host: some convolutions, and the gates of blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from e2train.devices.protocol import Counters, Mode
from e2train.nn.layers import OffloadConv2d
from e2train.nn.skipping import SkipPolicy
from e2train.runtime import Ledger, LedgerRow

__all__ = ["GATES", "count_host_macs"]

GATES = "gates"
"""The layer under which a ledger has all that decides which blocks run."""


def count_host_macs(model: nn.Module, ledger: Ledger) -> None:
    """Enter what ``model`` multiplies on the host into the ledger, from now on.

    That is every convolution that does not run on a device, and the gates of a skip policy.
    """
    for name, module in model.named_modules():
        on_host = not isinstance(module, OffloadConv2d) or module.host_reason is not None
        if isinstance(module, nn.Conv2d) and on_host:
            module.register_forward_hook(_counts(name, ledger))
        elif isinstance(module, SkipPolicy):
            for part in module.modules():
                if isinstance(part, nn.Linear | nn.LSTMCell):
                    part.register_forward_hook(_counts(GATES, ledger))


def _counts(name: str, ledger: Ledger) -> Callable[[nn.Module, Any, Any], None]:
    def count(module: nn.Module, args: Any, result: Any) -> None:
        # Numbers only: a tensor that its own hook refers to is never freed.
        products = _products(module, args, result)
        y: Tensor = result[0] if isinstance(result, tuple) else result

        def enter(mode: Mode, macs: int, a: int, b: int, results: int) -> None:
            counters = Counters(host_macs=macs)
            ledger.enter(
                LedgerRow(
                    name=name, mode=mode, calls=1, a_values=a, b_values=b, results=results, counters=counters
                )
            )

        def backward(_: Tensor) -> None:
            for macs, x, w, outputs, to_input in products:
                if to_input:
                    enter("grad_input", macs, outputs, w, x)
                enter("grad_weight", macs, x, outputs, w)

        for macs, x, w, outputs, _ in products:
            enter("forward", macs, x, w, outputs)
        if y.requires_grad:
            y.register_hook(backward)  # type: ignore[no-untyped-call]

    return count


_Product = tuple[int, int, int, int, bool]  # MACs; values of x, w and y; whether x wants its gradient


def _products(module: nn.Module, args: tuple[Any, ...], result: Any) -> list[_Product]:
    """The matrix products of a layer's forward pass."""
    if isinstance(module, nn.LSTMCell):
        x, state = args
        rows = len(x)
        wants = state is not None and state[0].requires_grad  # without a state, a hidden one of zeros
        return [
            (rows * w.numel(), rows * w.shape[1], w.numel(), rows * w.shape[0], to_input)
            for w, to_input in ((module.weight_ih, x.requires_grad), (module.weight_hh, wants))
        ]
    x, w, outputs = args[0], module.weight, result.numel()
    assert isinstance(w, Tensor)
    return [(outputs * w[0].numel(), x.numel(), w.numel(), outputs, x.requires_grad)]
