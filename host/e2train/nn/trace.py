# SPDX-License-Identifier: Apache-2.0
"""The convolutions of a model, without computing any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from e2train.devices import ConvShape
from e2train.nn.freezing import freeze
from e2train.nn.models import build_model
from e2train.nn.padding import zeros_around

__all__ = ["TracedConv", "conv_shape", "trace_convs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedConv:
    """One convolution as it meets a batch of images."""

    name: str
    shape: ConvShape  # of a grouped one: of all channels, as if it were not
    groups: int
    first: bool  # takes the images, whose gradient nobody needs
    to_input: bool = True  # the input wants its gradient
    to_weight: bool = True  # so do the weights


def trace_convs(
    model_name: str, *, batch: int, image: tuple[int, int, int] | None = None, frozen: str = ""
) -> list[TracedConv]:
    """All convolutions of a model by name, in order of use; of ``image`` (C, H, W), or of its usual ones.

    ``frozen`` names layers that do not train.

    >>> [conv.name for conv in trace_convs("resnet8", batch=1)][:2]
    ['stem.0', 'blocks.0.branch.0']
    """
    model, shape = build_model(model_name, image=image)
    freeze(model, frozen)
    model.to("meta").eval()
    images = torch.empty(batch, *shape, device="meta")
    found: list[TracedConv] = []

    def hook(name: str) -> Callable[[nn.Conv2d, tuple[Tensor], Tensor], None]:
        return lambda conv, args, _: found.append(
            TracedConv(
                name=name,
                shape=conv_shape(conv, args[0].shape),
                groups=conv.groups,
                first=args[0] is images,
                to_input=args[0].requires_grad,
                to_weight=conv.weight.requires_grad,
            )
        )

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(hook(name))
    model(images)
    return found


def conv_shape(conv: nn.Conv2d, size: Sequence[int]) -> ConvShape:
    """A convolution of an input of this size (N, C, H, W); of a grouped one: of all channels."""
    N, C, H, W = size
    left, right, top, bottom = zeros_around(conv)
    return ConvShape(
        N=N,
        C=C,
        H=H,
        W=W,
        K=conv.out_channels,
        R=conv.kernel_size[0],
        S=conv.kernel_size[1],
        stride=_pair(conv.stride),
        padding=(top, bottom, left, right),
    )
