# SPDX-License-Identifier: Apache-2.0
"""Quantisers: integers and scales to the bit, clipped straight-through gradients."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from brevitas.quant import Int8ActPerTensorFloat
from e2train.devices import ShapeError
from e2train.devices.emulator import Emulator
from e2train.nn import offload, whole_state
from e2train.nn.quantisers import (
    DivergenceError,
    InputQuant,
    WeightInt8,
    power_of_two,
    quantise_gradient,
)
from torch import nn
from torch.utils.checkpoint import checkpoint


@pytest.mark.parametrize("exponent", range(-80, 81, 8))
def test_power_of_two_is_the_smallest_that_covers(exponent):
    exact = 2.0**exponent
    assert power_of_two(exact) == exponent
    assert power_of_two(np.nextafter(exact, np.inf)) == exponent + 1
    assert power_of_two(np.nextafter(exact, 0)) == exponent


def test_power_of_two_of_nothing_and_of_infinity():
    assert power_of_two(0.0) == 0
    assert power_of_two(1e-40) == -90
    with pytest.raises(
        DivergenceError, match=r"^values have grown to inf: training diverged; use a smaller --lr$"
    ):
        power_of_two(math.inf)


@pytest.mark.parametrize(("largest", "scale"), [(1.0, 2**-7), (1.001, 2**-6), (0.5, 2**-8), (0.3, 2**-8)])
def test_weights_are_narrow_int8_with_a_power_of_two(largest, scale):
    conv = QuantConv2d(1, 1, 3, weight_quant=WeightInt8, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.linspace(-largest, largest, 9).reshape(1, 1, 3, 3))
    weight = conv.quant_weight()
    want = np.clip(np.rint(conv.weight.detach().numpy() / scale), -127, 127)
    assert weight.scale.item() == scale
    assert weight.int().dtype == torch.int8
    assert (weight.int().numpy() == want).all()


def test_input_is_uint8_until_a_negative_value_is_seen():
    quant = InputQuant()
    assert quant(torch.tensor([0.0, 0.9])).int().dtype == torch.uint8
    assert quant(torch.tensor([-0.1, 0.9])).int().dtype == torch.int8
    assert quant(torch.tensor([0.0, 0.9])).int().dtype == torch.int8


def test_input_rounds_halves_to_even():
    quant = InputQuant()
    x = torch.tensor([0.5, 1.5, 2.5, 255.0, 256.0]).div(256).requires_grad_()
    quantised = quant(x)
    assert quantised.scale.item() == 2**-8
    assert quantised.int().tolist() == [0, 2, 2, 255, 255]
    quantised.value.sum().backward()
    assert x.grad.tolist() == [1, 1, 1, 1, 1]


def test_a_largest_value_that_is_a_power_of_two_has_a_gradient_and_what_is_clipped_has_none():
    quant = InputQuant()
    quant(torch.tensor([-1.0, 1.0]))
    quant.eval()
    x = torch.tensor([-1.5, -1.0, -0.5, 0.5, 1.0, 1.5]).requires_grad_()
    quantised = quant(x)
    assert quantised.int().tolist() == [-128, -128, -64, 64, 127, 127]
    quantised.value.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("value", [0.5, 0.999, 1.0, 2.0])
def test_an_input_of_one_value_has_the_gradient_that_it_has_in_float(value):
    conv = nn.Conv2d(8, 16, 3)
    found = []
    for layer in (conv, offload(nn.Sequential(copy.deepcopy(conv)), Emulator())):
        x = torch.full((1, 8, 6, 6), value, requires_grad=True)
        layer(x).sum().backward()
        found.append(x.grad)
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.02)


def test_scale_forgets_slowly_and_holds_in_evaluation():
    quant = InputQuant()
    quant(torch.tensor([4.0]))
    assert quant(torch.tensor([0.1])).scale.item() == 4 / 256
    quant.eval()
    assert quant(torch.tensor([100.0])).int().tolist() == [255]
    quant.train()
    for _ in range(100):
        quantised = quant(torch.tensor([0.1]))
    assert quantised.scale.item() == 0.125 / 256


def test_evaluation_before_training_takes_the_inputs_own_scale():
    quant = InputQuant().eval()
    assert quant(torch.tensor([3.0])).int().tolist() == [192]


@pytest.mark.parametrize(
    "between", [nn.Dropout(0.75), nn.ConstantPad2d(1, 0.37)], ids=["beyond the range", "between integers"]
)
def test_a_quantised_tensor_that_has_changed_is_refused(between):
    """The engine would compute with other integers, without a word."""
    layer = offload(nn.Conv2d(3, 2, 1), Emulator())
    upstream = QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True)
    quantised = upstream(torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4))
    layer(nn.MaxPool2d(2)(quantised))
    few_bits = QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=4, return_quant_tensor=True)
    few = few_bits(torch.linspace(-1, 0.3, 48).reshape(1, 3, 4, 4))
    for same in (few + few, nn.AvgPool2d(3)(few)):  # but for last bits
        assert isinstance(same, type(quantised))
        layer(same)
    changed = between(quantised)
    assert type(changed) is type(quantised)
    with pytest.raises(ShapeError, match=r"^conv: the Brevitas tensor that comes in has .*as behind dropout"):
        layer(changed)
    layer(changed.value)


def test_gradient_is_int16_rounded_halves_to_even():
    gy = torch.tensor([1.0, -1.0, 0.5 / 32768, 1.5 / 32768, 2.5 / 32768, -0.5 / 32768])
    grad = quantise_gradient(gy)
    assert grad.ints.dtype == torch.int16
    assert grad.ints.tolist() == [32767, -32768, 0, 2, 2, 0]
    assert grad.scale == 2**-15
    assert grad.largest == 32768


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_gradient_of_few_bits_uses_the_upper_ones(bits):
    step = 2.0 ** (1 - bits)
    gy = step * torch.tensor([1 / step, -1 / step, 1 / step - 1, 0.5, 1.5, 2.5, -0.5, 0.51, -3.0])
    grad = quantise_gradient(gy, bits=bits)
    top = 1 << bits - 1
    assert (grad.ints >> 16 - bits).tolist() == [top - 1, -top, top - 1, 0, 2, 2, 0, 1, -3]
    assert (grad.ints % (1 << 16 - bits) == 0).all()
    assert grad.scale == quantise_gradient(gy).scale


@pytest.mark.parametrize("gy", [torch.zeros(3), torch.zeros(0)])
def test_gradient_of_nothing(gy):
    grad = quantise_gradient(gy)
    assert (grad.ints == 0).all()
    assert grad.largest == 0


def test_gradient_that_is_not_finite_is_refused():
    with pytest.raises(
        DivergenceError, match=r"^values have grown to nan: training diverged; use a smaller --lr$"
    ):
        quantise_gradient(torch.tensor([math.nan]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_gradient_of_any_float_has_the_same_integers(dtype):
    grad = quantise_gradient(torch.tensor([0.5, -0.5, 0.375], dtype=dtype))
    assert grad.ints.tolist() == [32767, -32768, 24576]
    assert grad.largest == 32768


def test_a_refused_input_moves_no_range():
    quant = InputQuant()
    quant(torch.tensor([1.0]))
    for value in (math.nan, math.inf):
        with pytest.raises(DivergenceError):
            quant(torch.tensor([0.5, value]))
    assert quant(torch.tensor([1.0])).scale.item() == 1 / 256


class Twice(nn.Module):
    """One layer that sees ever smaller inputs, and two that see others; the middle one a negative one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 2, 1)
        self.run = lambda part, x: part(x)

    def forward(self, x):
        y = self.run(self.one, x)
        z = self.run(self.one, -x / 8)
        return self.run(self.two, self.run(self.one, x / 64)) * y * z


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_forward_passes_move_ranges_once_and_give_the_same_gradients(use_reentrant, rng):
    plain = offload(Twice(), Emulator())
    saving = copy.deepcopy(plain)
    saving.run = partial(checkpoint, use_reentrant=use_reentrant)
    for size in (1.0, 0.01):
        x = torch.from_numpy(size * rng.random((2, 1, 3, 3))).float().requires_grad_()
        for net in (plain, saving):
            net(x).sum().backward()
        for key, value in whole_state(plain).items():
            assert torch.equal(whole_state(saving)[key], value), key
        for mine, want in zip(saving.parameters(), plain.parameters(), strict=True):
            # float32 sums in another order; one other integer would be off by 1e-3
            torch.testing.assert_close(mine.grad, want.grad, rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_called_often_repeats_its_first_call_too():
    plain = offload(nn.Conv2d(1, 1, 1), Emulator())
    saving = copy.deepcopy(plain)
    x = torch.tensor([[[[0.5, -0.25]]]])
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    calls = (plain, partial(checkpoint, saving, use_reentrant=False))
    for call, x in zip(calls, inputs, strict=True):
        sum(call(x * 0.96**step) for step in range(100)).sum().backward()
    assert torch.equal(saving.weight.grad, plain.weight.grad)
    assert torch.equal(inputs[1].grad, inputs[0].grad)


def test_a_forward_pass_of_its_own_within_a_backward_pass_moves_no_range():
    quant = InputQuant()
    x = torch.tensor([1.0], requires_grad=True)
    scales = []
    x.register_hook(lambda gradient: scales.append(quant(torch.tensor([-8.0])).scale.item()))
    quant(x).value.sum().backward()
    assert scales == [8 / 128]
    assert quant(torch.tensor([1.0])).scale.item() == 1 / 256
