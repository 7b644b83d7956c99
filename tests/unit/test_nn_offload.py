# SPDX-License-Identifier: Apache-2.0
"""What offload replaces, what it leaves alone, and what it says."""

import copy
import warnings

import pytest
import torch
from brevitas.nn import QuantConv2d, QuantConvTranspose2d
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerTensorFloat,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from brevitas.quant.fixed_point import Int8WeightPerChannelFixedPoint
from brevitas.quant.float_quant_ocp import Fp8e4m3OCPWeightPerTensorFloat
from e2train.devices import ShapeError
from e2train.devices.emulator import Emulator
from e2train.nn import HostLayerWarning, OffloadContext, OffloadConv2d, offload
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
NOTHING = "nothing runs on the device: the model has no Conv2d or QuantConv2d that the engine takes"


def test_what_is_no_model_or_no_device_is_refused():
    with pytest.raises(TypeError, match=r"^the model must be an nn\.Module, not str$"):
        offload("resnet8", Emulator())
    text = r"^the device must be one that open_device returned, or an OffloadContext, not 'emulator'$"
    with pytest.raises(TypeError, match=text):
        offload(nn.Conv2d(1, 1, 1), "emulator")


class Standardised(nn.Conv2d):
    """Weight standardisation: its forward is not that of the weights it holds."""

    def forward(self, x):
        w = self.weight - self.weight.mean(dim=(1, 2, 3), keepdim=True)
        w = w / (w.std(dim=(1, 2, 3), keepdim=True) + 1e-6)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class SameAtRunTime(nn.Conv2d):
    """Padding that depends on the input's size, more at the far side, without a trace in ``padding``."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


def norm_act(width):
    return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())


def standardised_net():
    return nn.Sequential(
        Standardised(3, 8, 3, padding=1, bias=False), norm_act(8), nn.Conv2d(8, 8, 1), norm_act(8),
        Standardised(8, 16, 3, stride=2, padding=1), norm_act(16), nn.Conv2d(16, 16, 3, padding=1),
    )  # fmt: skip


def plain_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), norm_act(4), nn.Conv2d(4, 5, 3))


def same_net():
    return nn.Sequential(
        SameAtRunTime(3, 8, 3, stride=2, bias=False), norm_act(8), nn.Conv2d(8, 16, 1), norm_act(16),
        SameAtRunTime(16, 16, 5, stride=2, groups=16), norm_act(16), nn.Conv2d(16, 8, 1),
    )  # fmt: skip


def mixed_net():
    quantised = {"weight_quant": Int8WeightPerTensorFloat, "input_quant": Int8ActPerTensorFloat}
    return nn.Sequential(
        QuantConv2d(3, 8, 3, stride=2, padding="same", bias=False), norm_act(8),
        parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1)), norm_act(8),
        QuantConv2d(8, 8, 3, padding=1, bias=True, **quantised), norm_act(8),
        prune.l1_unstructured(nn.Conv2d(8, 16, 1), "weight", amount=0.5),
    )  # fmt: skip


def images(rng, *shape):
    return torch.from_numpy(rng.random(shape)).float()


def messages(record):
    return [str(each.message) for each in record if each.category is HostLayerWarning]


@pytest.mark.parametrize(
    ("build", "on_device"),
    [(standardised_net, {"2", "6"}), (same_net, {"2", "6"}), (mixed_net, {"0", "2", "4", "6"})],
)
def test_network_stays_close_to_float(build, on_device, rng):
    torch.manual_seed(int(rng.integers(1 << 32)))
    net, x = build(), images(rng, 4, 3, 15, 14)
    want = copy.deepcopy(net)(x) if build is not mixed_net else net(x)  # torch cannot copy a pruned weight
    context = OffloadContext(device=Emulator())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HostLayerWarning)
        offload(net, context)
    got = net(x)
    assert got.shape == want.shape
    assert ((got - want).norm() / want.norm()).item() < 0.1
    got.square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters() if parameter.requires_grad)
    assert {row.name for row in context.ledger.snapshot()} == on_device


def test_own_forward_stays_and_is_named(rng):
    class Centred(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight - self.weight.mean())

    patched = nn.Conv2d(3, 4, 1)
    patched.forward = lambda x: 2 * F.conv2d(x, patched.weight)
    net, x = nn.ModuleList([Centred(3, 4, 3), patched, nn.Conv2d(3, 4, 1)]), images(rng, 2, 3, 5, 5)
    want = [net[0](x), net[1](x)]
    with pytest.warns(HostLayerWarning) as record:
        offload(net, Emulator())
    assert messages(record) == [
        f"these convolutions run on the host: 0 (class {__name__}.{Centred.__qualname__}), "
        "1 (its forward was replaced)"
    ]
    assert torch.equal(net[0](x), want[0])
    assert torch.equal(net[1](x), want[1])
    assert type(net[2]) is OffloadConv2d


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Conv1d(1, 1, 1), "torch.nn.modules.conv.Conv1d"),
        (nn.Conv3d(1, 1, 1), "torch.nn.modules.conv.Conv3d"),
        (nn.ConvTranspose2d(1, 1, 1), "torch.nn.modules.conv.ConvTranspose2d"),
        (nn.LazyConv2d(1, 1), "torch.nn.modules.conv.LazyConv2d"),
        (QuantConvTranspose2d(1, 1, 1), "brevitas.nn.quant_convtranspose.QuantConvTranspose2d"),
    ],
)
def test_other_convolutions_are_named(layer, kind):
    with pytest.warns(HostLayerWarning) as record:
        offload(nn.Sequential(layer), Emulator())
    assert messages(record) == [f"these convolutions run on the host: 0 (class {kind})", NOTHING]


def test_nothing_to_offload_is_said():
    with pytest.warns(HostLayerWarning) as record:
        offload(nn.Linear(2, 2), Emulator())
    assert messages(record) == [NOTHING]


def test_every_reference_to_a_layer_sees_the_device(rng):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            conv = nn.Conv2d(3, 3, 1)
            self.twice = nn.Sequential(conv, nn.ReLU(), conv)
            self.alias = conv
            self.by_name = nn.ModuleDict({"conv": conv})
            self.unregistered = [conv]

    net, context = Net(), OffloadContext(device=Emulator())
    assert offload(net, context) is net
    same = [net.twice[0], net.twice[2], net.alias, net.by_name["conv"], net.unregistered[0]]
    assert all(layer is same[0] for layer in same)
    assert type(same[0]) is OffloadConv2d
    net.twice(images(rng, 1, 3, 4, 4))
    (row,) = context.ledger.snapshot()
    assert (row.name, row.mode, row.calls) == ("twice.0", "forward", 2)


def test_hooks_go_along(rng):
    conv, calls = nn.Conv2d(2, 2, 1), []
    conv.register_forward_pre_hook(lambda module, args: calls.append("before"))
    conv.register_forward_hook(lambda module, args, y: calls.append("after"))
    conv.register_full_backward_hook(lambda module, gx, gy: calls.append("backward"))
    conv.weight.register_hook(lambda gradient: calls.append("weight"))
    layer = offload(conv, Emulator())
    layer(images(rng, 1, 2, 3, 3).requires_grad_()).sum().backward()
    assert calls[:2] == ["before", "after"]
    assert sorted(calls[2:]) == ["backward", "weight"]


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    "parametrise",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        weight_norm,
        spectral_norm,
        lambda conv: prune.random_unstructured(conv, "weight", amount=0.5),
    ],
    ids=["weight_norm", "spectral_norm", "old weight_norm", "old spectral_norm", "prune"],
)
def test_parametrised_weights_compute_on_the_device(parametrise, mode, rng):
    """The layer's weight, and the gradients of what it is computed from, are those of the parametrisation."""
    torch.manual_seed(int(rng.integers(1 << 32)))
    conv = parametrise(nn.Conv2d(3, 4, 3))
    getattr(conv, mode)()
    plain = parametrise(nn.Conv2d(3, 4, 3))
    getattr(plain, mode)()
    plain.load_state_dict(conv.state_dict())
    context = OffloadContext(device=Emulator())
    layer = offload(conv, context)
    assert isinstance(layer, OffloadConv2d)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    x = images(rng, 2, 3, 6, 6)
    y, want = layer(x), plain(x)
    assert ((y - want).norm() / want.norm()).item() < 0.02
    y.sum().backward()
    want.sum().backward()
    for (name, mine), theirs in zip(layer.named_parameters(), plain.parameters(), strict=True):
        assert (mine.grad - theirs.grad).norm() <= 0.05 * theirs.grad.norm() + 1e-5, name
    assert {row.mode for row in context.ledger.snapshot()} == {"forward", "grad_weight"}


def test_a_compiled_model_trains_to_the_same_bits():
    torch._dynamo.reset()
    trained = {}
    for compiled in (False, True):
        torch.manual_seed(0)
        net = offload(plain_net(), Emulator())
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        called = torch.compile(net, backend="eager") if compiled else net
        with torch._dynamo.config.patch(error_on_recompile=True):
            for _ in range(3):
                optimiser.zero_grad()
                called(torch.rand(2, 3, 8, 8)).square().mean().backward()
                optimiser.step()
        trained[compiled] = net.state_dict()
    assert all(torch.equal(tensor, trained[True][name]) for name, tensor in trained[False].items())
    broken = torch._dynamo.utils.counters["graph_break"]
    assert all("torch.compiler.disable" in reason for reason in broken), broken


def test_a_copy_from_before_stays_in_float():
    conv = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    before = copy.deepcopy(conv)
    offload(conv, Emulator())
    assert not isinstance(before, OffloadConv2d)


def test_a_second_call_moves_the_model(rng):
    first, second = OffloadContext(device=Emulator()), OffloadContext(device=Emulator())
    model, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), images(rng, 2, 3, 4, 4)
    offload(model[0], first)
    want = model(x)
    scales = copy.deepcopy(model[0].ranges())
    offload(model, second)
    assert torch.equal(model(x), want)
    assert model[0].ranges() == scales
    assert [row.name for row in first.ledger.snapshot()] == ["conv"]
    assert [row.name for row in second.ledger.snapshot()] == ["0"]


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (1, 1)])
def test_same_padding_of_brevitas_at_a_stride(size, rng):
    conv = QuantConv2d(3, 4, (3, 2), stride=2, padding="same", bias=True)
    x = images(rng, 2, 3, *size)
    want = conv(x)
    got = offload(conv, Emulator())(x)
    assert got.shape == want.shape
    assert ((got - want).norm() / want.norm()).item() < 0.02


@pytest.mark.parametrize(
    ("quantisers", "role", "found"),
    [
        ({"weight_quant": Int8WeightPerChannelFixedPoint}, "weight", "3 scales"),
        ({"weight_quant": Int8WeightPerTensorFloat, "weight_bit_width": 9}, "weight", "9 bits"),
        ({"weight_quant": Int8WeightPerTensorFloat, "weight_signed": False}, "weight", "no sign"),
        ({"weight_quant": Fp8e4m3OCPWeightPerTensorFloat}, "weight", "a FloatQuantTensor"),
        ({"weight_quant": Int8WeightPerTensorFloat, "weight_quant_delay_steps": 5}, "weight",
         "values between its integers"),
        ({"input_quant": ShiftedUint8ActPerTensorFloat}, "input", "a zero point"),
        ({"input_quant": Int8ActPerTensorFloat, "input_bit_width": 16}, "input", "16 bits"),
    ],
)  # fmt: skip
def test_quantisers_that_the_engine_cannot_follow_are_refused(quantisers, role, found):
    model = nn.Sequential(nn.Conv2d(2, 2, 1), QuantConv2d(2, 3, 1, **quantisers))
    before = [type(module) for module in model]
    with pytest.raises(ShapeError) as error:
        offload(model, Emulator())
    assert str(error.value) == (
        f"1: the {role} quantiser gives {found}, but the engine takes integers of at most 8 bits (weights "
        "with a sign), one scale per tensor and zero point 0; change the quantiser"
    )
    assert [type(module) for module in model] == before


@pytest.mark.parametrize(
    "quantisers",
    [
        {"weight_quant": Int8WeightPerTensorFloat, "weight_bit_width": 3},
        {"weight_quant": SignedBinaryWeightPerTensorConst, "weight_scaling_init": 0.1},
        {"weight_quant": SignedTernaryWeightPerTensorConst, "weight_scaling_init": 0.1},
        {"input_quant": Uint8ActPerTensorFloat, "input_bit_width": 4},
        {"weight_quant": None},
    ],
    ids=["3 bits", "binary", "ternary", "uint4", "none"],
)
def test_quantisers_that_the_engine_follows(quantisers, rng):
    """Trying them moves nothing, and the layer computes what Brevitas does."""
    conv = QuantConv2d(2, 3, 1, bias=False, **quantisers)
    x, before = images(rng, 2, 2, 5, 5), copy.deepcopy(conv.state_dict())
    context = OffloadContext(device=Emulator())
    layer = offload(copy.deepcopy(conv), context)
    assert layer.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    want = conv(x)
    assert ((layer(x) - want).norm() / want.norm()).item() < 0.02  # what int8 makes of a float input
    assert [row.mode for row in context.ledger.snapshot()] == ["forward"]


def test_a_scale_per_channel_is_no_matter_on_the_host(rng):
    conv = QuantConv2d(2, 2, 1, groups=2, weight_quant=Int8WeightPerChannelFixedPoint, bias=True)
    x = images(rng, 1, 2, 3, 3)
    want = conv(x)
    text = r"^these convolutions run on the host: conv \(groups=2\); with operands of 8 bits, .*: conv$"
    with pytest.warns(HostLayerWarning, match=text):
        got = offload(conv, Emulator())(x)
    assert ((got - want).norm() / want.norm()).item() < 0.02


@pytest.mark.parametrize("role", ["bias", "output"])
def test_quantisers_of_bias_and_output_are_refused(role):
    conv = QuantConv2d(2, 3, 1, **{f"{role}_quant": Int8ActPerTensorFloat})
    with pytest.raises(
        ShapeError, match=r"^conv: bias and output quantisers are not supported; remove them$"
    ):
        offload(conv, Emulator())
