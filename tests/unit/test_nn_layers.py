# SPDX-License-Identifier: Apache-2.0
"""Offloaded layers: exact against torch in float64, on the integers that they sent."""

import copy
import math
import warnings
import weakref

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d, QuantIdentity
from brevitas.quant import Int8ActPerTensorFloat, Uint8ActPerTensorFloat
from e2train.devices import ShapeError, open_device
from e2train.nn import (
    DivergenceError,
    HostLayerWarning,
    NonFiniteInputError,
    OffloadContext,
    OffloadConv2d,
    WeightInt8,
    count_host_macs,
    offload,
    whole_state,
)
from e2train.nn.functions import safe_shift
from e2train.nn.quantisers import quantise_gradient
from e2train.numerics.psg import Psg
from e2train.runtime import Ledger
from torch import nn
from torch.nn import functional as F  # noqa: N812

GEOMETRIES = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "down": {"kernel_size": 3, "stride": 2, "padding": 1},
    "projection": {"kernel_size": 1, "stride": 2},
    "same, even kernel": {"kernel_size": (2, 4), "padding": "same"},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
}


@pytest.fixture
def context():
    return OffloadContext(device=open_device("emulator"))


def images(rng, *shape, signed):
    """Floats that int8 or uint8 hold exactly, the largest included."""
    ints = rng.integers(-127 if signed else 0, 128 if signed else 256, shape)
    ints.flat[0] = -127 if signed else 255
    return torch.from_numpy((ints / (128 if signed else 256)).astype(np.float32)).requires_grad_()


@pytest.mark.parametrize("signed", [False, True], ids=["uint8", "int8"])
@pytest.mark.parametrize("kind", [nn.Conv2d, QuantConv2d])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_layer_equals_float64_on_its_integers(context, rng, geometry, kind, signed):
    quantiser = {"weight_quant": WeightInt8} if kind is QuantConv2d else {}
    layer = offload(kind(5, 6, bias=True, **quantiser, **geometry), context)
    assert isinstance(layer, OffloadConv2d)
    x = images(rng, 3, 5, 8, 7, signed=signed)
    y = layer(x)
    gy = torch.from_numpy(rng.normal(size=y.shape).astype(np.float32))
    y.backward(gy)

    grad = quantise_gradient(gy)
    x64 = x.detach().double().requires_grad_()
    plain = nn.Conv2d(5, 6, bias=False, dtype=torch.float64, **geometry)
    plain.weight = nn.Parameter(layer.quant_weight().value.detach().double())
    y64 = plain(x64)
    y64.backward(grad.ints.double() * grad.scale)
    assert torch.equal(y, y64.float() + layer.bias.view(1, -1, 1, 1))
    assert torch.equal(layer.weight.grad, plain.weight.grad.float())
    assert torch.equal(layer.bias.grad, gy.sum(dim=(0, 2, 3)))
    if geometry.get("padding_mode"):  # the host folds the padding back in float32
        torch.testing.assert_close(x.grad, x64.grad.float(), rtol=1e-6, atol=1e-6)
    else:
        assert torch.equal(x.grad, x64.grad.float())


def test_quant_conv_keeps_its_quantisers_and_parameters(context, rng):
    conv = QuantConv2d(4, 3, 3, bias=True)
    x = images(rng, 2, 4, 6, 6, signed=False)
    want = conv(x)
    layer = offload(conv, context)
    assert layer.weight is conv.weight
    assert layer.bias is conv.bias
    assert layer.weight_quant is conv.weight_quant
    # float32 sums of the reference, not the integers, leave the last bits open
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-6)


def test_upstream_quantiser_with_a_scale_per_channel_is_refused(context):
    upstream = QuantIdentity(
        act_quant=Int8ActPerTensorFloat,
        scaling_per_output_channel=True,
        per_channel_broadcastable_shape=(1, 3, 1, 1),
        scaling_stats_permute_dims=(1, 0, 2, 3),
        return_quant_tensor=True,
    )
    layer = offload(nn.Conv2d(3, 2, 1), context)
    with pytest.raises(ShapeError) as error:
        layer(upstream(torch.ones(1, 3, 2, 2)))
    assert str(error.value) == (
        "conv: the input quantiser gives 3 scales, but the engine takes integers of at most 8 bits (weights "
        "with a sign), one scale per tensor and zero point 0; change the quantiser"
    )


def test_offload_replaces_every_convolution_and_says_which_stay():
    shared = nn.Conv2d(4, 4, 1)
    model = nn.Sequential(shared, nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), shared), nn.Conv2d(8, 8, 9))
    with pytest.warns(HostLayerWarning) as warned:
        assert offload(model, open_device("emulator")) is model
    assert [str(each.message) for each in warned] == [
        "these convolutions run on the host: 1.0 (groups=2), 2 (kernel_size=(9, 9)); "
        "with operands of 8 bits, as on the device: 1.0, 2"
    ]
    assert model[0] is model[1][1]
    assert all(isinstance(m, OffloadConv2d) for m in (model[0], model[1][0], model[2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        offload(model, open_device("emulator"))


def test_grouped_convolution_computes_on_the_host(context, rng):
    conv = nn.Conv2d(4, 6, 3, groups=2, padding=1)
    x = images(rng, 2, 4, 5, 5, signed=False)
    with pytest.warns(HostLayerWarning):
        layer = offload(conv, context)
    y = layer(x)
    y.sum().backward()
    weight = layer.quant_weight().value
    torch.testing.assert_close(y, F.conv2d(x, weight, conv.bias, padding=1, groups=2))
    assert x.grad is not None
    assert context.ledger.snapshot() == ()


def test_ledger_holds_what_was_needed(context, rng):
    model = offload(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), context)
    model(images(rng, 2, 3, 6, 6, signed=False).detach()).sum().backward()
    assert {(row.name, row.mode): row.counters.macs for row in context.ledger.snapshot()} == {
        ("0", "forward"): 2 * 16 * 4 * 27,
        ("0", "grad_weight"): 2 * 16 * 4 * 27,  # nobody needs the gradient of the images
        ("2", "forward"): 2 * 16 * 2 * 4,
        ("2", "grad_input"): 2 * 16 * 2 * 4,
        ("2", "grad_weight"): 2 * 16 * 2 * 4,
    }


@pytest.mark.parametrize("depthwise", [False, True])
def test_counting_on_the_host_keeps_no_tensor_alive(rng, depthwise):
    ledger = Ledger()
    model = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3 if depthwise else 1), nn.ReLU())
    count_host_macs(model, ledger)
    outputs = []
    model[0].register_forward_hook(lambda module, args, y: outputs.append(weakref.ref(y)))
    model(images(rng, 2, 3, 6, 6, signed=False)).sum().backward()
    assert [row.mode for row in ledger.snapshot()] == ["forward", "grad_input", "grad_weight"]
    assert outputs[0]() is None


def test_backward_frees_what_the_layer_kept(context, rng):
    model = offload(nn.Conv2d(3, 4, 3), context)
    loss = model(images(rng, 2, 3, 6, 6, signed=False)).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    assert len(context.ledger.snapshot()) == 3  # and counts nothing


def test_an_empty_batch_trains_nothing(context):
    layer = offload(nn.Conv2d(3, 4, 3), context)
    y = layer(torch.zeros(0, 3, 5, 5, requires_grad=True))
    y.sum().backward()
    assert y.shape == (0, 4, 3, 3)
    assert not layer.weight.grad.any()


@pytest.mark.parametrize("sign", [1, -1])
def test_shift_keeps_the_worst_gradient_inside_int32(context, sign):
    layer = offload(nn.Conv2d(1, 1200, 3, padding=1, bias=False), context)
    with torch.no_grad():
        layer.weight.fill_(1.0 * sign)
    x = torch.ones(1, 1, 5, 5, requires_grad=True)
    y = layer(x * 0.4)
    y.backward(torch.full_like(y, -1.0))
    assert context.ledger.saturations == 0
    want = -sign * 0.4 * 9 * 1200 * 127 / 128  # 127/128 is what int8 makes of 1
    assert x.grad[0, 0, 2, 2].item() == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("terms", [1, 515, 516, 517, 1031, 1032, 1033, 132_104])
def test_safe_shift_is_the_smallest(terms):
    w = torch.full((terms, 1, 1, 1), -127, dtype=torch.int8)
    shift, bound = safe_shift(w, 32768), 32768 * 127 * terms
    fits = [(bound + ((1 << s) >> 1)) >> s < 1 << 31 for s in range(shift + 1)]
    assert fits == [False] * shift + [True]


def offloaded(net, device):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HostLayerWarning)
        return offload(net, device)


@pytest.mark.parametrize("groups", [1, 2], ids=["device", "host"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_output_has_the_dtype_of_the_input(context, rng, dtype, groups):
    narrow = nn.Conv2d(4, 6, 3, groups=groups).to(dtype)
    wide = copy.deepcopy(narrow).float()
    x = images(rng, 2, 4, 6, 6, signed=True).detach().to(dtype).requires_grad_()
    x32 = x.detach().float().requires_grad_()
    y, want = offloaded(narrow, context)(x), offloaded(wide, context)(x32)
    assert y.dtype == dtype
    assert torch.equal(y.float(), want.to(dtype).float()) or dtype == torch.float64
    torch.testing.assert_close(y.float(), want, rtol=1e-2, atol=1e-2)
    y.sum().backward()
    want.sum().backward()
    assert x.grad.dtype == narrow.weight.grad.dtype == narrow.bias.grad.dtype == dtype
    torch.testing.assert_close(narrow.weight.grad.float(), wide.weight.grad, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(x.grad.float(), x32.grad, rtol=1e-2, atol=1e-2)


def test_weights_near_the_end_of_float16_keep_their_integers(context):
    """Their scale is below float16's smallest number, where 127 times it would be 128 times it."""
    layer = offload(nn.Conv2d(1, 1, 1, bias=False), context).half()
    with torch.no_grad():
        layer.weight.fill_(2.0**-20)
    x = torch.full((1, 1, 1, 1), 2.0**10, dtype=torch.float16)
    assert layer(x).item() == np.float16(2.0**-20 * 127 / 128 * 2.0**10 * 255 / 256)


def test_images_of_integers_are_taken_as_floats(context):
    layer = offload(nn.Conv2d(1, 1, 1, bias=False), context)
    x = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    assert torch.equal(layer(x), layer(x.float()))
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_an_image_without_a_batch(context, rng, geometry):
    layer, x = offload(nn.Conv2d(5, 6, **geometry), context), images(rng, 5, 8, 7, signed=True)
    y = layer(x)
    assert torch.equal(y, layer(x.unsqueeze(0)).squeeze(0))
    y.sum().backward()
    assert x.grad.shape == x.shape


def test_a_quantised_image_without_a_batch(context, rng):
    layer, x = offload(nn.Conv2d(5, 6, 1), context), images(rng, 5, 8, 7, signed=True)
    upstream = QuantIdentity(act_quant=Int8ActPerTensorFloat, return_quant_tensor=True).eval()
    assert torch.equal(layer(upstream(x)), layer(upstream(x.unsqueeze(0))).squeeze(0))


@pytest.mark.parametrize("groups", [1, 2], ids=["device", "host"])
@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 8, 8), (8, 8), (1, 2, 4, 8, 8)])
def test_a_wrong_input_is_blamed(context, shape, groups):
    net = offloaded(nn.Sequential(nn.Conv2d(4, 4, 3, groups=groups)), context)
    with pytest.raises(ShapeError) as error:
        net(torch.zeros(shape))
    assert str(error.value) == f"0: the input is {shape}, must be (N, 4, H, W) or (4, H, W)"


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("groups", [1, 2])
def test_autocast_keeps_the_integers(rng, narrow, groups):
    """What comes from layers before may be narrow; the layer's own products are not."""
    x, gy = images(rng, 2, 4, 5, 5, signed=True), torch.from_numpy(rng.random((2, 8, 5, 5), np.float32))

    def passes() -> list[torch.Tensor]:
        torch.manual_seed(1)
        x.grad = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # groups run on the host
            layer = offload(nn.Conv2d(4, 8, 3, padding=1, groups=groups), open_device("emulator"))
        y = layer(x)
        y.backward(gy)
        return [y, x.grad, layer.weight.grad]

    want = passes()
    with torch.autocast("cpu", narrow):
        found = passes()
    assert all(map(torch.equal, found, want))


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": (0, 0)},
        {"padding": "valid"},
        {"padding": (2, 2), "dilation": (2, 2)},
        {"padding": "same", "dilation": 2},
        {"stride": 2},
    ],
    ids=lambda settings: " ".join(f"{name} {value}" for name, value in settings.items()),
)
@pytest.mark.parametrize("late", [False, True], ids=["before", "later"])
def test_settings_that_are_changed_count(context, rng, settings, late):
    def change(conv: nn.Conv2d) -> nn.Conv2d:
        for name, value in settings.items():
            setattr(conv, name, value)
        return conv

    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dilation runs on the host
        layer = offload(conv if late else change(conv), context)
    plain = change(nn.Conv2d(3, 4, 3, padding=1, bias=False))
    x = images(rng, 2, 3, 7, 6, signed=False)
    y = change(layer)(x)
    plain.weight.data = layer.quant_weight().value.detach()
    torch.testing.assert_close(y, plain(x))


@pytest.mark.parametrize(("bits", "signed"), [(3, False), (4, True), (4, False), (5, True)])
def test_an_input_without_high_bits_is_no_input_for_psg(rng, bits, signed):
    quantiser = Int8ActPerTensorFloat if signed else Uint8ActPerTensorFloat
    net = nn.Sequential(
        QuantIdentity(quantiser, bit_width=bits, return_quant_tensor=True), QuantConv2d(3, 4, 3, bias=False)
    )
    context = OffloadContext(device=open_device("emulator"), psg=Psg())
    x = torch.from_numpy(rng.normal(size=(2, 3, 6, 6)).astype(np.float32))
    offload(net, context)
    if 2 ** (bits - signed) > 8:
        net(x).sum().backward()
        assert net[1].weight.grad.any()
        return
    with pytest.raises(ShapeError) as error:
        net(x)
    assert str(error.value) == (
        f"1: the input has {bits} bits, and PSG predicts from the 4 highest of 8, which are all zero; use a "
        "quantiser of more bits, or psg_mode resolve"
    )
    assert net.eval()(x).shape == (2, 4, 4, 4)


@pytest.mark.parametrize(("switch", "which"), [("weight_quant", "weight"), ("input_quant", "input")])
def test_a_quantiser_that_is_switched_off_is_named(context, switch, which):
    layer = offload(QuantConv2d(3, 4, 3, input_quant=Int8ActPerTensorFloat, bias=True), context)
    getattr(layer, switch).disable_quant = True
    with pytest.raises(ShapeError) as error:
        layer(torch.ones(1, 3, 5, 5))
    assert str(error.value) == (
        f"conv: the {which} quantiser is switched off, and the device computes on integers; calibrate before "
        "offload"
    )


TRACERS = {
    "torch.jit.trace": lambda net, x: torch.jit.trace(net, x),
    "torch.export": lambda net, x: torch.export.export(net, (x,)),
    "torch.func (vmap, grad and others)": lambda net, x: torch.vmap(net)(x),
}


@pytest.mark.parametrize("tracer", TRACERS)
def test_tracing_is_refused(context, tracer):
    net = offload(nn.Sequential(nn.Conv2d(3, 4, 3)), context)
    with pytest.raises(NotImplementedError) as error:
        TRACERS[tracer](net, torch.ones(2, 3, 5, 5))
    assert str(error.value) == (
        f"0: {tracer} cannot follow a convolution on a device; use it on a model that is not offloaded"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "conv",
    [
        lambda: nn.Conv2d(3, 4, 3),
        lambda: nn.Conv2d(3, 3, 3, groups=3),
        lambda: QuantConv2d(3, 4, 3, input_quant=Int8ActPerTensorFloat, bias=True),
    ],
    ids=["device", "host", "own quantiser"],
)
def test_an_input_that_is_not_finite_is_blamed_and_moves_nothing(context, rng, conv, value):
    net, x = offloaded(nn.Sequential(conv()), context), images(rng, 2, 3, 6, 6, signed=False).detach()
    net(x)
    before, bad = copy.deepcopy(whole_state(net)), x.clone()
    bad[1, 2, 3, 4] = value
    with pytest.raises(NonFiniteInputError) as error:
        net(bad)
    assert str(error.value) == (f"0: the input holds {abs(value)}; check the data and the layers before it")
    assert whole_state(net).keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in whole_state(net).items())


@pytest.mark.parametrize("kind", [nn.Conv2d, QuantConv2d])
def test_weights_that_are_not_finite_are_named(context, kind):
    net = offload(nn.Sequential(kind(1, 1, 2, bias=True)), context)
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = math.nan
    with pytest.raises(DivergenceError) as error:
        net(torch.ones(1, 1, 2, 2))
    assert str(error.value) == ("0: the weights have grown to nan: training diverged; use a smaller --lr")
    assert not net[0].ranges()["sign_quant.saw_negative"]
