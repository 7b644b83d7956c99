# SPDX-License-Identifier: Apache-2.0
"""Counts the multiply-accumulates of convolutions that stay on the host."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from e2train.devices.protocol import Counters, Mode
from e2train.nn.layers import OffloadConv2d
from e2train.runtime import Ledger, LedgerRow

__all__ = ["count_host_macs"]


def count_host_macs(model: nn.Module, ledger: Ledger) -> None:
    """Enter every convolution of ``model`` that does not run on a device into the ledger, from now on."""
    for name, module in model.named_modules():
        on_host = not isinstance(module, OffloadConv2d) or module.host_reason is not None
        if isinstance(module, nn.Conv2d) and on_host:
            module.register_forward_hook(_counts(name, ledger))


def _counts(name: str, ledger: Ledger) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def count(module: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> None:
        macs = y.numel() * module.weight[0].numel()  # type: ignore[index]
        # Numbers only: a tensor that its own hook refers to is never freed.
        x, w, outputs = args[0].numel(), module.weight.numel(), y.numel()  # type: ignore[operator]
        to_input = args[0].requires_grad

        def enter(mode: Mode, a: int, b: int, result: int) -> None:
            counters = Counters(host_macs=macs)
            ledger.enter(
                LedgerRow(
                    name=name, mode=mode, calls=1, a_values=a, b_values=b, results=result, counters=counters
                )
            )

        def backward(_: Tensor) -> None:
            if to_input:
                enter("grad_input", outputs, w, x)
            enter("grad_weight", x, outputs, w)

        enter("forward", x, w, outputs)
        if y.requires_grad:
            y.register_hook(backward)  # type: ignore[no-untyped-call]

    return count
