# SPDX-License-Identifier: Apache-2.0
"""Forward and backward passes over one device's memory: in turn, or not at all."""

import copy
import re

import pytest
import torch
from e2train.devices.memory import SpecResident
from e2train.devices.protocol import ShapeError
from e2train.nn import NonFiniteInputError, OffloadContext, ResidentBody, ResidualNet, digits_net


@pytest.fixture
def model() -> ResidualNet:
    torch.manual_seed(4)
    net = digits_net()
    net.resident = ResidentBody(net, OffloadContext(device=SpecResident(), gradient_bits=8), image=(1, 8, 8))
    return net


IMAGES = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(1))


def gradients(model: ResidualNet) -> list[torch.Tensor]:
    model.zero_grad()
    model(IMAGES).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize(
    "other", [lambda m: m(IMAGES), lambda m: m.eval()(IMAGES), lambda m: copy.deepcopy(m)(IMAGES)]
)
def test_a_pass_whose_tensors_were_overwritten_is_refused(model, other):
    loss = model(IMAGES).square().sum()
    other(model)
    with pytest.raises(RuntimeError, match="no longer holds this forward pass"):
        loss.backward()


def test_a_second_backward_pass_is_refused(model):
    loss = model(IMAGES).square().sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="each forward pass has one backward pass"):
        loss.backward()


def test_second_derivatives_are_refused(model):
    loss = model(IMAGES).square().sum()
    text = "a model with resident tensors is differentiable once, without create_graph=True"
    with pytest.raises(NotImplementedError, match=re.escape(text)):
        torch.autograd.grad(loss, list(model.parameters()), create_graph=True)


def test_a_copy_computes_the_same_and_moves_nothing_of_the_original(model):
    gradients(model)
    twin = copy.deepcopy(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for theirs, mine in zip(gradients(twin), gradients(copy.deepcopy(model)), strict=True):
        assert torch.equal(theirs, mine)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(twin.resident.maxima, before["resident.maxima"])
    assert twin.resident.context is model.resident.context


def test_averaged_models_work(model):
    gradients(model)
    averaged = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    averaged.update_parameters(model)
    assert torch.equal(averaged.eval()(IMAGES), model.eval()(IMAGES))


def test_an_evaluation_has_no_backward_pass(model):
    loss = model.eval()(IMAGES).square().sum()
    with pytest.raises(RuntimeError, match=r"keeps nothing for a backward pass; call model\.train"):
        loss.backward()


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (IMAGES[0], ShapeError, "images must be (N, 1, 8, 8) with N from 1 on, not (1, 8, 8)"),
        (IMAGES[:, :, :7], ShapeError, "images must be (N, 1, 8, 8) with N from 1 on, not (2, 1, 7, 8)"),
        (IMAGES / 0, NonFiniteInputError, "the images hold values that are not finite"),
        (
            IMAGES.clone().requires_grad_(),
            NotImplementedError,
            "with resident tensors images get no gradient",
        ),
    ],
)
def test_images_that_it_cannot_take_are_refused(model, images, error, text):
    with pytest.raises(error, match=re.escape(text)):
        model(images)


def test_an_overflow_reaches_the_loss_scaler(model):
    (model(IMAGES).sum() * float("inf")).backward()
    assert all(not parameter.grad.isfinite().any() for parameter in model.parameters())
    assert model.resident.maxima.isfinite().all()
