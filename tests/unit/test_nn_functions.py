# SPDX-License-Identifier: Apache-2.0
"""The autograd function: differentiable once, and honest about what overflows."""

import math

import pytest
import torch
from e2train.devices.emulator import Emulator
from e2train.nn import OffloadContext, offload
from e2train.numerics.psg import Psg
from torch import nn
from torch.utils.checkpoint import checkpoint


def images(rng, *shape):
    return torch.from_numpy(rng.random(shape)).float().requires_grad_()


@pytest.mark.parametrize("last", [nn.ReLU(), nn.Identity()], ids=["any", "constant"])
def test_a_gradient_penalty_is_refused(last, rng):
    """Also where the output gradient is a constant, so that the penalty would seem to be one."""
    critic = offload(nn.Sequential(nn.Conv2d(2, 3, 3), last), Emulator())
    x = images(rng, 2, 2, 5, 5)

    def penalty():
        (gx,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        (gx.norm() - 1).square().backward()

    with pytest.raises(NotImplementedError) as error:
        penalty()
    assert str(error.value) == (
        "0: a convolution on a device is differentiable once, without create_graph=True; "
        "take second derivatives of a model that is not offloaded"
    )


def test_two_backward_passes_of_one_forward_pass_add_up(rng):
    model, x = offload(nn.Sequential(nn.Conv2d(2, 3, 3)), Emulator()), images(rng, 2, 2, 5, 5)
    loss = model(x).sum()
    loss.backward(retain_graph=True)
    once = x.grad.clone()
    loss.backward()
    assert torch.equal(x.grad, 2 * once)


@pytest.mark.parametrize("psg", [None, Psg()], ids=["full", "psg"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_an_overflow_gives_infinite_gradients_and_runs_nothing(value, psg, rng):
    context = OffloadContext(device=Emulator(), psg=psg)
    layer, x = offload(nn.Conv2d(2, 3, 3), context), images(rng, 2, 2, 5, 5)
    y = layer(x)
    gy = torch.zeros_like(y)
    gy[0, 0, 0, 0] = value
    y.backward(gy)
    for gradient in (x.grad, layer.weight.grad):
        assert (gradient.isposinf() | (gradient == 0)).all()  # 0 where the quantiser has clipped
        assert gradient.isposinf().any()
    assert [row.mode for row in context.ledger.snapshot()] == ["forward"]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_loss_scaler_skips_the_step_that_overflows(checkpointed, rng):
    model = offload(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 1)), Emulator())
    x = images(rng, 2, 2, 5, 5)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-60)
    before = [weight.detach().clone() for weight in model.parameters()]

    def step():
        optimiser.zero_grad()
        y = checkpoint(model, x, use_reentrant=False) if checkpointed else model(x)
        scaler.scale((y * 64).square().sum()).backward()
        scaler.step(optimiser)
        scaler.update()
        return [not torch.equal(*pair) for pair in zip(model.parameters(), before, strict=True)]

    assert step() == [False] * 4
    assert scaler.get_scale() == 2.0**67
    assert step() == [True] * 4
    assert scaler.get_scale() == 2.0**67


def test_double_precision_keeps_sums_above_float32(rng):
    """512 * 9 products of 255 and 127 need 28 bits."""
    conv = nn.Conv2d(512, 1, 3, bias=False).double()
    with torch.no_grad():
        conv.weight.fill_(127 / 128)
        conv.weight[0, 0, 0, 0] = 1 / 128
    x = torch.full((1, 512, 3, 3), 255 / 256, dtype=torch.float64).requires_grad_()
    y = offload(conv, Emulator())(x)
    y.backward()
    assert y.dtype == torch.float64
    assert y.item() == (127 * (512 * 9 - 1) + 1) * 255 / 2**15
    assert x.grad.dtype == conv.weight.grad.dtype == torch.float64
    assert (conv.weight.grad * 2**23).unique().tolist() == [255 * 32767]
