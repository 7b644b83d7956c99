# SPDX-License-Identifier: Apache-2.0
"""Tensors that are all zero or have no samples, which must take nothing from those that have."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from e2train.devices.memory import SpecResident
from e2train.devices.native import NativeResident
from e2train.devices.resident import Affine
from e2train.nn import (
    Group,
    OffloadContext,
    ResidentBody,
    ResidualNet,
    SkipPolicy,
    digits_net,
    freeze,
    share,
)
from resident_recorder import Recorder
from torch import nn
from torch.nn import functional as F  # noqa: N812

IMAGE = (1, 8, 8)
TARGETS = torch.arange(8) % 4
WIDTHS = list(itertools.product((8, 16), (8, 16), (8, 16)))


class Closing(SkipPolicy):
    """All samples run, or none runs the last block."""

    closed = False

    def gate(self, index, x):
        return torch.full((len(x),), float(not (self.closed and index == 3)))


class OneOfTwo(Group):
    """A rank whose other one has samples for every block, and gradients that are finite."""

    size, forward = 2, False

    def any(self, flag):
        return self.forward or flag


def images() -> torch.Tensor:
    return torch.rand(8, *IMAGE, generator=torch.Generator().manual_seed(3))


def net(*, zero: bool = False) -> ResidualNet:
    torch.manual_seed(4)
    found = digits_net()
    if zero:  # as zero_init_residual of torchvision
        for block in found.blocks:
            nn.init.zeros_(block.branch[4].weight)
    return found.train()


def on_device(model: ResidualNet, device=None, *, widths=(8, 16, 16), group=None, **options) -> ResidualNet:
    gradient, result, block = widths
    context = OffloadContext(
        device=device or NativeResident(threads=1), gradient_bits=gradient, group=group or Group()
    )
    model.resident = ResidentBody(
        model, context, image=IMAGE, result_bits=result, block_gradient_bits=block, **options
    )
    return model


def step(model: ResidualNet) -> torch.Tensor:
    """One step of SGD; the length of the stem's gradient."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    F.cross_entropy(model(images()), TARGETS).backward()
    optimiser.step()
    length = model.stem[0].weight.grad.norm()
    optimiser.zero_grad()
    return length


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_branches_that_begin_at_zero_leave_the_gradient_of_the_shortcut(widths):
    """Gradients of such branches are all zero in the first step, those of their shortcuts are not."""
    exact, model = net(zero=True), on_device(net(zero=True), widths=widths)
    wanted, found = [step(exact) for _ in range(4)], [step(model) for _ in range(4)]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, rel=0.5)


def test_branches_that_begin_at_zero_have_the_bits_of_the_spec(assert_same_bits):
    models = [on_device(net(zero=True), device) for device in (SpecResident(), NativeResident(threads=1))]
    for _ in range(3):
        for model in models:
            step(model)
        spec, native = (model.state_dict() for model in models)
        for key, value in spec.items():
            assert_same_bits(native[key].numpy(), value.numpy(), case=key)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_a_rank_without_samples_for_a_block_goes_on(widths):
    model, group = net(), OneOfTwo()
    model.policy = Closing()
    share(model, group)
    on_device(model, widths=widths, group=group)
    for number in range(8):
        model.policy.closed, group.forward = number == 6, True
        averages = model(images())
        group.forward = False
        F.cross_entropy(averages, TARGETS).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_step_depends_on_no_phase_of_an_earlier_one():
    """A copy, as a resumed run, begins without; where the only block that learns is skipped, none comes."""
    model = net()
    freeze(model, "stem,blocks.0-2")
    model.policy = Closing()
    on_device(model, Recorder(), widths=(8, 16, 8), dithered=True)
    for closed in (False, True):
        model.policy.closed = closed
        twin = copy.deepcopy(model)
        assert phases(model) == phases(twin)


def phases(model: ResidualNet) -> list[int | None]:
    """Those that the operations of a step are dithered with."""
    recorder = model.resident.context.device
    recorder.clear()
    F.cross_entropy(model(images()), TARGETS).backward()
    return [call.dither for call in recorder.calls if isinstance(call, Affine)]


def test_scales_keep_their_bits_where_a_model_is_cast():
    model = on_device(net())
    step(model)
    before = model.resident.maxima.clone()
    model.half().float()
    assert model.resident.maxima.dtype == torch.float64
    assert torch.equal(model.resident.maxima, before)
    model.to(torch.bfloat16)(images().to(torch.bfloat16))
