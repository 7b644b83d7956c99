# SPDX-License-Identifier: Apache-2.0
"""Tensors that are all zero or have no samples, which must take nothing from those that have."""

from __future__ import annotations

import copy
import itertools
import threading

import numpy as np
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
from e2train.runtime.resident import Scales
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
    logits = model.to(torch.bfloat16)(images().to(torch.bfloat16))
    assert (logits.dtype, bool(logits.isfinite().all())) == (torch.bfloat16, True)


def test_a_guess_serves_in_one_step_alone():
    """A sum in place whose operand was all zero: what is seen takes the guess's place."""
    scales = Scales({"g0": "int16", "g1": "int16"}, np.zeros(2), decay=0.95)
    scales.start("g0", 1.0, guessed=True)
    scales.start("g1", 1.0)
    assert scales.maxima.tolist() == [2.0, 2.0]
    for name in ("g0", "g1"):
        scales.see(name, 1e-5)
    scales.advance(lambda seen: seen)
    assert scales.maxima.tolist() == [1e-5, 1.9]
    scales.see("g0", 1e-6)
    scales.advance(lambda seen: seen)
    assert scales.maxima[0] == 0.95e-5


def test_a_gradient_that_begins_at_zero_leaves_no_guess():
    model = on_device(net())
    nn.init.zeros_(model.head[-1].weight)
    F.cross_entropy(model(images()), TARGETS).backward()
    scales = model.resident._scales
    gradients = [name for name in scales._kinds if name.startswith("g") or ".g" in name]
    assert len(gradients) > 10
    assert not any(map(scales.known, gradients))
    for _ in range(3):
        step(model)
    assert all(map(scales.known, gradients))


@pytest.mark.parametrize("block_bits", [8, 16])
def test_what_is_dead_in_the_first_step_wakes_up(block_bits):
    """Results that are all zero have the scale of their trial, and the next step looks again.

    With 16 bits: behind a branch that does not vary gradients are hundreds of times as large, and 8-bit ones
    are zero until their scale has forgotten these.
    """
    model = on_device(net(), widths=(16, 16, block_bits))
    nn.init.constant_(model.blocks[0].branch[1].bias, -100.0)  # before a ReLU
    step(model)
    nn.init.zeros_(model.blocks[0].branch[1].bias)
    step(model)
    model(images()).square().sum().backward()
    assert model.blocks[0].branch[0].weight.grad.norm() > 0


class Threads(Group):
    """One of two ranks in threads of one process, which must all ask alike."""

    size = 2

    def __init__(self, rank: int, shared: dict) -> None:
        self.rank, self.shared = rank, shared

    def _both(self, values: torch.Tensor, combine) -> torch.Tensor:
        self.shared["values"][self.rank] = values.detach().clone()
        self.shared["meet"].wait()
        one, other = self.shared["values"]
        assert one.shape == other.shape, "ranks ask for different things"
        combined = combine(one, other)
        self.shared["meet"].wait()
        return combined

    def sum(self, values):
        return self._both(values, torch.add)

    def max(self, values):
        return self._both(values, torch.maximum)


class Some(SkipPolicy):
    """All samples, none, or every other one runs a block."""

    def __init__(self, block: int | None, open_share: float) -> None:
        super().__init__()
        self.block, self.open_share = block, open_share

    def gate(self, index, x):
        gate = torch.ones(len(x))
        if index == self.block:
            gate[:: 1 if not self.open_share else 2] = 0
        return gate


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("open_share", [0.0, 0.5], ids=["none runs", "half run"])
@pytest.mark.parametrize("zero", [False, True], ids=["", "gradients begin at zero"])
def test_scales_are_those_of_all_ranks(block, open_share, zero):
    """Though the samples of one rank skip a block, and a whole gradient may be zero in the first step."""
    shared = {"values": [None, None], "meet": threading.Barrier(2, timeout=60)}
    models = [net(), net()]
    failed: list[BaseException] = []

    def train(rank: int) -> None:
        model, group = models[rank], Threads(rank, shared)
        try:
            for _ in range(2):
                F.cross_entropy(model(images()), TARGETS).backward()
                for parameter in model.parameters():
                    mine = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                    parameter.data -= 0.01 * group.sum(mine)
                    parameter.grad = None
        except BaseException as error:
            failed.append(error)
            shared["meet"].abort()

    for rank, model in enumerate(models):
        if zero:
            nn.init.zeros_(model.head[-1].weight)
        model.policy = Some(block if rank else None, open_share)
        model.skips_stage_starts = True
        share(model, Threads(rank, shared))
        on_device(model, group=Threads(rank, shared))
    threads = [threading.Thread(target=train, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert models[0].resident.maxima.tolist() == models[1].resident.maxima.tolist()
