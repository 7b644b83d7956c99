# SPDX-License-Identifier: Apache-2.0
"""What resident networks refuse, since they would compute something else than torch does."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from e2train.devices.resident import ResidentDevice
from e2train.nn.context import OffloadContext
from e2train.nn.resident_network import ResidentError
from e2train.nn.residual import ResidualNet

__all__ = ["check_bits", "check_calls", "check_context", "check_gate", "check_norms"]


def check_context(context: OffloadContext) -> None:
    """Raises: ResidentError when the context's device keeps no tensors."""
    if not isinstance(context, OffloadContext) or not isinstance(context.device, ResidentDevice):
        raise ResidentError(
            "resident runs need an OffloadContext with a device of e2train.devices.open_resident, not "
            f"{getattr(context, 'device', context)!r}"
        )


def check_calls(model: ResidualNet) -> None:
    """Make sure that torch would run nothing but the layers themselves, which the device does not call.

    Raises: ResidentError where a layer has forward hooks, or a weight that is computed from others.
    """
    head = list(model.head) if isinstance(model.head, nn.Sequential) else []
    inside = [module for part in (model.stem, *model.blocks, *head[:-1]) for module in part.modules()]
    for module in inside:
        computed = isinstance(module, nn.Conv2d | nn.BatchNorm2d) and not {"weight", "bias"} <= {
            *module._parameters
        }
        if module._forward_hooks or module._forward_pre_hooks or computed:
            name = next(name for name, each in model.named_modules() if each is module)
            raise ResidentError(
                f"{name} has forward hooks or computed weights, as torch.nn.utils.prune adds, which the "
                "device does not follow; remove them, or use --set execution=offload"
            )


def check_norms(norms: Mapping[str, tuple[nn.BatchNorm2d, bool]], *, training: bool) -> None:
    """Make sure that batch norms are in the mode of their model, but frozen ones in evaluation mode.

    ``norms`` has the one behind each convolution, and whether that is frozen.

    Raises: ResidentError when one is not.
    """
    for name, (norm, frozen) in norms.items():
        if norm.training != (training and not frozen):
            mode = "evaluation" if norm.training else "training"
            raise ResidentError(
                f"the batch norm behind {name} must be in {mode} mode, as the device computes; call "
                "e2train.nn.freeze before ResidentBody to keep some as they are"
            )


def check_bits(**widths: int) -> None:
    """Raises: ResidentError when an integer would not be as wide as memory holds it."""
    for name, bits in widths.items():
        if bits not in (8, 16):
            raise ResidentError(f"{name} must be 8 or 16 with resident tensors, not {bits}")


def check_gate(index: int, gate: Tensor, *, training: bool) -> None:
    """Make sure that a block's gates are zero or one, or in an evaluation zero or all alike.

    Raises: ResidentError when they are not.
    """
    weights = sorted(set(gate[gate != 0].tolist()))
    if len(weights) > 1 or (training and weights not in ([], [1.0])):
        wanted = "1" if training else "all alike"
        raise ResidentError(
            f"gates of block {index} must be 0 or {wanted} with resident tensors, not "
            f"{', '.join(f'{weight:g}' for weight in weights[:4])}; use a model without them"
        )
