# SPDX-License-Identifier: Apache-2.0
"""What resident networks refuse, since they would compute something else than torch does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from e2train.devices.resident import ResidentDevice
from e2train.nn.context import OffloadContext
from e2train.nn.resident_network import ResidentError
from e2train.nn.residual import PaddedShortcut, ResidualNet

__all__ = ["KnownLayers", "check_context", "check_gate", "check_norms", "check_numbers"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("stride", "padding", "dilation", "groups", "padding_mode"),
    PaddedShortcut: ("stride", "front", "back"),
}


def check_context(context: OffloadContext) -> None:
    """Raises: ResidentError when the context's device keeps no tensors."""
    if not isinstance(context, OffloadContext) or not isinstance(context.device, ResidentDevice):
        raise ResidentError(
            "resident runs need an OffloadContext with a device of e2train.devices.open_resident, not "
            f"{getattr(context, 'device', context)!r}"
        )


class KnownLayers:
    """The layers that a program on a device stands for, as they are when it is made.

    Raises: as ``check``.
    """

    def __init__(self, model: ResidualNet) -> None:
        if not isinstance(model, ResidualNet):
            raise ResidentError(f"the model must be a ResidualNet, not {type(model).__name__}; use offload")
        self._known = dict(_layers(model))
        self.check(model)

    def check(self, model: ResidualNet) -> None:
        """Make sure that torch would run these layers as they were, and nothing besides.

        Raises: ResidentError where a layer is another one or set otherwise, has hooks, a forward of its own,
            or a weight that is computed from others.
        """
        found = dict(_layers(model))
        for name, (module, _) in found.items():
            computed = isinstance(module, nn.Conv2d | nn.BatchNorm2d) and not {"weight", "bias"} <= {
                *module._parameters
            }
            if computed or "forward" in vars(module) or any(getattr(module, hooks) for hooks in _HOOKS):
                raise ResidentError(
                    f"{name} has hooks, a forward of its own or computed weights, as torch.nn.utils.prune "
                    "adds, which the device does not follow; remove them, or use --set execution=offload"
                )
        for name in (*found, *self._known):
            if found.get(name) != self._known.get(name):
                raise ResidentError(
                    f"{name} was replaced or set otherwise after the ResidentBody was made, which the device "
                    "does not follow; make a new ResidentBody"
                )


def _layers(model: ResidualNet) -> Iterator[tuple[str, tuple[nn.Module, Any]]]:
    """All layers but the classifier, which torch runs, by name, with what they are set to."""
    head = list(model.head) if isinstance(model.head, nn.Sequential) else []
    classifier = {module for last in head[-1:] for module in last.modules()}
    for part in ("stem", "blocks", "head"):
        for name, module in getattr(model, part).named_modules(prefix=part):
            if module not in classifier:
                settings = _SETTINGS.get(type(module), ())
                yield name, (module, (type(module), *(getattr(module, each) for each in settings)))


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


def check_numbers(image: tuple[int, ...], decay: float, gradient_range: float, **widths: int) -> None:
    """Raises: ResidentError where a setting is none, or an integer not as wide as memory holds it."""
    if len(image) != 3 or min(image) < 1:
        raise ResidentError(f"image must be the shape (C, H, W) of what comes in, not {image}")
    if not 0 <= decay <= 1:
        raise ResidentError(f"decay must be in 0..1, not {decay}")
    if not 0 < gradient_range <= 1:
        raise ResidentError(f"gradient_range must be above 0 and at most 1, not {gradient_range}")
    for name, bits in widths.items():
        if bits not in (8, 16):
            raise ResidentError(f"{name} must be 8 or 16 with resident tensors, not {bits}")


def check_gate(index: int, gate: Tensor, samples: int, *, training: bool) -> None:
    """Make sure that a block's gates are zero or one, or in an evaluation zero or all alike.

    Raises: ResidentError when they are not, or not one for each sample.
    """
    if gate.shape != (samples,):
        raise ResidentError(
            f"gates of block {index} must be one for each of {samples} samples, not of shape "
            f"{tuple(gate.shape)}"
        )
    weights = sorted(set(gate[gate != 0].tolist()))
    if len(weights) > 1 or (training and weights not in ([], [1.0])):
        wanted = "1" if training else "all alike"
        raise ResidentError(
            f"gates of block {index} must be 0 or {wanted} with resident tensors, not "
            f"{', '.join(f'{weight:g}' for weight in weights[:4])}; use a model without them"
        )
