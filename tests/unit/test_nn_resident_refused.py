# SPDX-License-Identifier: Apache-2.0
"""Networks that cannot have resident tensors, or would compute something else with them, are refused."""

from __future__ import annotations

import re

import pytest
import torch
from e2train.devices import ShapeError, open_device
from e2train.devices.memory import SpecResident
from e2train.nn import (
    OffloadContext,
    PaddedShortcut,
    ResidentBody,
    ResidentError,
    ResidualBlock,
    ResidualNet,
    SkipPolicy,
    build_model,
    describe,
    digits_net,
    freeze,
    resnet,
)
from torch import nn
from torch.nn.utils import prune

IMAGE = (1, 8, 8)


class Fixed(SkipPolicy):
    """The same gates of the second block."""

    def __init__(self, gate: torch.Tensor) -> None:
        super().__init__()
        self.fixed = gate

    def gate(self, index, x):
        return self.fixed if index == 1 else None


def on_device() -> ResidualNet:
    net = digits_net()
    net.resident = ResidentBody(net, OffloadContext(device=SpecResident(), gradient_bits=16), image=IMAGE)
    return net


def _changed(change) -> ResidualNet:
    net = resnet(8)
    change(net)
    return net


def _replace(block: int, at: int, layer: nn.Module):
    def change(net: ResidualNet) -> None:
        net.blocks[block].branch[at] = layer

    return change


def _shortcut(block: int, layer: nn.Module | None):
    def change(net: ResidualNet) -> None:
        net.blocks[block].shortcut = layer

    return change


def _pool(net: ResidualNet) -> None:
    net.head[0] = nn.AdaptiveMaxPool2d(1)


def _four_averages(net: ResidualNet) -> None:
    net.head[0] = nn.AdaptiveAvgPool2d(2)


def _no_norm(net: ResidualNet) -> None:
    net.stem = nn.Sequential(net.stem[0], net.stem[2])


class Halved(ResidualBlock):
    """Its sum is another than a residual block's."""

    def forward(self, x, gate=None):
        return self.activation(self.shortcut(x) + 0.5 * self.branch(x))


class Pooled(PaddedShortcut):
    """It takes means where a padded shortcut leaves pixels out."""

    def forward(self, x):
        return super().forward(x).relu()


def _own_forward(net: ResidualNet) -> None:
    net.blocks[0].__class__ = Halved


def _own_shortcut(net: ResidualNet) -> None:
    net.blocks[1].shortcut.__class__ = Pooled


def _narrower(net: ResidualNet) -> None:
    net.blocks[1].branch[3] = nn.Conv2d(32, 12, 3, padding=1, bias=False)
    net.blocks[1].branch[4] = nn.BatchNorm2d(12)
    net.blocks[1].shortcut = PaddedShortcut(-4, stride=2)


@pytest.mark.parametrize(
    "change",
    [
        _replace(1, 0, nn.Conv2d(16, 32, 3, stride=2, padding=1)),
        _replace(0, 0, nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False)),
        _replace(0, 0, nn.Conv2d(16, 16, 3, padding=2, dilation=2, bias=False)),
        _replace(0, 0, nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect", bias=False)),
        _replace(0, 2, nn.GELU()),
        _replace(0, 1, nn.GroupNorm(4, 16)),
        _shortcut(1, nn.Conv2d(16, 32, 1, stride=2, bias=False)),
        _pool,
        _four_averages,
        _no_norm,
        _own_forward,
        _own_shortcut,
        _narrower,
        _replace(0, 0, nn.Conv2d(16, 16, 9, padding=4, bias=False)),
    ],
    ids=[
        "bias", "groups", "dilation", "reflecting padding", "GELU", "group norm", "projection", "max pooling",
        "four averages", "no batch norm", "a block with a forward of its own",
        "a shortcut with a forward of its own", "a shortcut that leaves channels out", "a kernel of 9 by 9",
    ],
)  # fmt: skip
def test_a_model_that_cannot_stay_on_the_device_says_so_in_one_line(change):
    with pytest.raises(ResidentError) as refused:
        describe(_changed(change), (3, 32, 32))
    message = str(refused.value)
    assert "\n" not in message
    assert re.search(r" cannot stay on the device: .* use --set execution=offload( \(.*\))?$", message), (
        message
    )


@pytest.mark.parametrize("late", [False, True], ids=["before", "later"])
@pytest.mark.parametrize(
    "change",
    [
        lambda net: prune.l1_unstructured(net.blocks[0].branch[0], "weight", 0.5),
        lambda net: net.stem.register_forward_hook(lambda *called: None),
        lambda net: net.blocks[1].branch[1].register_forward_pre_hook(lambda *called: None),
    ],
    ids=["pruned", "hook of the stem", "hook of a batch norm"],
)
def test_hooks_that_nobody_would_call_are_refused(change, late):
    net = on_device() if late else digits_net()
    change(net)
    with pytest.raises(ResidentError, match=r"^(stem|blocks\.\d\.branch\.\d) has hooks, a forward of its "):
        net(torch.rand(2, *IMAGE)) if late else ResidentBody(
            net, OffloadContext(device=SpecResident(), gradient_bits=16), image=IMAGE
        )


def test_a_batch_without_images_is_refused():
    with pytest.raises(
        ShapeError, match=r"^images must be \(N, 1, 8, 8\) with N from 1 on, not \(0, 1, 8, 8\)$"
    ):
        on_device()(torch.rand(0, *IMAGE))


def _shared(net: ResidualNet) -> None:
    net.blocks.insert(1, net.blocks[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_shared, "blocks.0.branch.0 is used more than once: resident runs take each convolution once; "
         "use --set execution=offload"),
        (_replace(0, 1, nn.BatchNorm2d(16, affine=False)), "the batch norm behind blocks.0.branch.0 needs "
         "affine=True and track_running_stats=True in resident runs"),
        (_replace(0, 1, nn.BatchNorm2d(16, track_running_stats=False)), "the batch norm behind "
         "blocks.0.branch.0 needs affine=True and track_running_stats=True in resident runs"),
    ],
    ids=["a block twice", "affine", "track_running_stats"],
)  # fmt: skip
def test_what_a_program_would_compute_otherwise_is_refused(change, message):
    with pytest.raises(ResidentError) as refused:
        describe(_changed(change), (3, 32, 32))
    assert str(refused.value) == message


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_batch_norm_in_another_mode_than_the_model_is_refused(training):
    net = on_device()
    net(torch.rand(2, *IMAGE))
    net.train(training).stem[1].train(not training)
    mode = "training" if training else "evaluation"
    with pytest.raises(ResidentError, match=rf"^the batch norm behind stem.0 must be in {mode} mode, as "):
        net(torch.rand(2, *IMAGE))


def test_parts_frozen_behind_the_programs_back_are_refused():
    net = on_device()
    freeze(net, "stem")
    with pytest.raises(ResidentError, match=r"call e2train.nn.freeze before ResidentBody to keep some as"):
        net.train()(torch.rand(2, *IMAGE))


def test_other_widths_and_devices_are_refused():
    context = OffloadContext(device=SpecResident(), gradient_bits=12)
    with pytest.raises(ResidentError, match=r"^gradient_bits must be 8 or 16 with resident tensors, not 12$"):
        ResidentBody(digits_net(), context, image=IMAGE)
    for name in ("result_bits", "input_gradient_bits", "block_gradient_bits"):
        with pytest.raises(ResidentError, match=rf"^{name} must be 8 or 16 with resident tensors, not 4$"):
            ResidentBody(digits_net(), OffloadContext(device=SpecResident()), image=IMAGE, **{name: 4})
    streams = open_device("emulator")
    for other in (OffloadContext(device=streams), streams):
        with pytest.raises(ResidentError, match=r"^resident runs need an OffloadContext with a device of "):
            ResidentBody(digits_net(), other, image=IMAGE)


def test_resnet18_cannot_stay_on_the_device():
    model, image = build_model("resnet18")
    with pytest.raises(ResidentError, match=r"cannot stay on the device: .* use --set execution=offload$"):
        describe(model, image)


@pytest.mark.parametrize(
    ("training", "gate", "message"),
    [
        (True, [0.5, 0.0], "must be 0 or 1 with resident tensors, not 0.5"),
        (True, [1.0, 0.5], "must be 0 or 1 with resident tensors, not 0.5, 1"),
        (False, [0.5, 0.25], "must be 0 or all alike with resident tensors, not 0.25, 0.5"),
    ],
)
def test_gates_that_weigh_samples_differently_are_refused(training, gate, message):
    net = on_device().train(training)
    net.policy = Fixed(torch.tensor(gate))
    with pytest.raises(ResidentError) as refused:
        net(torch.rand(2, *IMAGE))
    assert str(refused.value) == f"gates of block 1 {message}; use a model without them"
