# SPDX-License-Identifier: Apache-2.0
"""Networks of inverted residual blocks with resident tensors: gradients, skipped samples, work, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from e2train.devices.emulator.resident import TorchResident
from e2train.devices.memory import SpecResident
from e2train.devices.native import NativeResident
from e2train.devices.resident import ResidentDevice
from e2train.nn import (
    OffloadContext,
    ResidentBody,
    ResidentError,
    ResidualBlock,
    ResidualNet,
    SkipPolicy,
    describe,
    mobilenet_v2,
    quantise_weight,
)
from e2train.runtime.resident import TRIAL, Kinds, full_rows
from torch import Tensor, nn

IMAGE = (3, 8, 8)


def conv_norm(before: int, channels: int, size: int, *behind: nn.Module, **options: int) -> list[nn.Module]:
    conv = nn.Conv2d(before, channels, size, padding=size // 2, bias=False, **options)
    return [conv, nn.BatchNorm2d(channels), *behind]


def inverted(before: int, channels: int, *, wide: int, stride: int = 1) -> ResidualBlock:
    branch = nn.Sequential(
        *conv_norm(before, wide, 1, nn.ReLU6()),
        *conv_norm(wide, wide, 3, nn.ReLU6(), stride=stride, groups=wide),
        *conv_norm(wide, channels, 1),
    )
    same = stride == 1 and before == channels
    return ResidualBlock(branch, shortcut=nn.Identity() if same else None)


@pytest.fixture
def model() -> ResidualNet:
    """A stem, a strided block, two that may be skipped, and a convolution in the head."""
    torch.manual_seed(7)
    blocks = [
        inverted(8, 20, wide=24, stride=2),
        inverted(20, 20, wide=40),
        inverted(20, 20, wide=18),
    ]
    head = nn.Sequential(
        *conv_norm(20, 33, 1, nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(33, 5)
    )
    net = ResidualNet(stem=nn.Sequential(*conv_norm(3, 8, 3, nn.ReLU6())), blocks=blocks, head=head)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # some values beyond both ends of ReLU6
            nn.init.uniform_(module.weight, 1.0, 3.0)
            nn.init.uniform_(module.bias, 0.0, 6.0)
    return net


class FixedSkip(SkipPolicy):
    """Gates by block; remembers the features that it was asked with."""

    def __init__(self, gates: dict[int, list[float]]) -> None:
        super().__init__()
        self.gates = {index: torch.tensor(values, requires_grad=True) for index, values in gates.items()}
        self.seen: dict[int, Tensor] = {}

    def gate(self, index: int, x: Tensor) -> Tensor | None:
        self.seen[index] = x.mean(dim=(2, 3)).detach()
        return self.gates[index].to(x.dtype) if index in self.gates else None


def on(
    device: ResidentDevice, model: ResidualNet, *, gradient_bits: int = 16, block_gradient_bits: int = 16
) -> ResidualNet:
    """A copy of a model on a device."""
    twin = copy.deepcopy(model)
    twin.resident = ResidentBody(
        twin,
        OffloadContext(device=device, gradient_bits=gradient_bits),
        image=IMAGE,
        block_gradient_bits=block_gradient_bits,
        dithered=block_gradient_bits == 8,
    )
    return twin


def batch(samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randn((samples, 3, 4, 4), generator=generator)
    labels = torch.randint(5, (samples,), generator=generator)
    return F.interpolate(coarse, size=8, mode="bilinear"), labels


def gradients(net: ResidualNet, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Of all parameters and gates."""
    net.zero_grad()
    F.cross_entropy(net(images), labels).backward()
    found = {
        name: parameter.grad.clone()
        for name, parameter in net.named_parameters()
        if parameter.grad is not None
    }
    for index, gate in getattr(net.policy, "gates", {}).items():
        found[f"gate {index}"] = gate.grad.clone()
        gate.grad = None
    return found


class Recorded(nn.Module):
    """An activation with the values that the device has stored, and the gradient that belongs to them."""

    def __init__(self, stored: Tensor, *, relu6: bool) -> None:
        super().__init__()
        self.stored = stored
        self.open = (stored > 0) & (stored < 6) if relu6 else torch.ones_like(stored, dtype=torch.bool)

    def forward(self, x: Tensor) -> Tensor:
        return self.stored + torch.where(self.open, x - x.detach(), 0)


def in_float(model: ResidualNet, stored: Iterator[Tensor]) -> ResidualNet:
    """A copy in float64 with the device's weights and, in order of use, its activations."""
    twin = copy.deepcopy(model).double()
    for module in twin.modules():
        if isinstance(module, nn.Conv2d):
            ints, exponent = quantise_weight(module.weight)
            module.weight.data = ints.double() * 2.0**exponent
    twin.stem[2] = Recorded(next(stored), relu6=True)
    for block in twin.blocks:
        for place in (2, 5):
            block.branch[place] = Recorded(next(stored), relu6=True)
        block.activation = Recorded(next(stored), relu6=False)
    twin.head[2] = Recorded(next(stored), relu6=True)
    return twin


def stored_activations(net: ResidualNet) -> Iterator[Tensor]:
    """What the last forward pass has left in the device's memory, in order of use."""
    body = net.resident._body
    device = body._ops.device
    inputs = [x for block in body._blocks for x in (block.x, *(conv.x for conv in block.branch[1:]))]
    for x in (*inputs[1:], body._last_x):  # without the images
        yield torch.from_numpy(device.read(x.tensor)).double() * 2.0**x.exponent


@pytest.mark.parametrize("skips", [False, True])
def test_gradients_are_those_of_what_was_stored(model: ResidualNet, skips: bool) -> None:
    images, labels = batch(32)
    images = torch.round(images * 32).clamp(-127, 127) / 32
    net = on(NativeResident(), model)
    gates = {1: [1.0, 0.0] * 16, 2: [0.0, 0.0, 1.0, 1.0] * 8} if skips else {}
    net.policy = FixedSkip(gates)
    for _ in range(14):  # scales begin with room to spare, and settle
        found = gradients(net, images, labels)
    net(images)
    twin = in_float(model, stored_activations(net))
    twin.policy = FixedSkip(gates)
    wanted = gradients(twin, images.double(), labels)
    assert found.keys() == wanted.keys()
    assert ("gate 2" in found) == skips
    for name, want in wanted.items():
        error, size = float((found[name] - want).norm()), float(want.norm())
        if size > 1e-12:  # 16 bits, batch norm's differences of sums, and 10 layers of both
            assert error < 0.04 * size, f"{name}: {error} of {size}"
        else:  # a bias that the next batch norm takes away
            assert error < 0.01 * float(found[name.replace("bias", "weight")].norm()), name


def test_skipped_samples_keep_their_signed_results(model: ResidualNet) -> None:
    net = on(NativeResident(), model)
    images, labels = batch(8)
    net.policy = policy = FixedSkip({1: [0.0, 1.0] * 4})
    gradients(net, images, labels)
    assert net.runs == (8, 4, 8)
    assert bool((policy.seen[1] < 0).any())
    unchanged = (policy.seen[1] == policy.seen[2]).all(dim=1)
    assert unchanged.tolist() == [True, False] * 4


def test_nothing_goes_back_through_a_ceiling(model: ResidualNet) -> None:
    nn.init.constant_(model.stem[1].bias, 30.0)
    nn.init.constant_(model.head[1].bias, 30.0)
    net = on(NativeResident(), model)
    images, labels = batch(8)
    averages: list[Tensor] = []
    net.head[-1].register_forward_pre_hook(lambda _, args: averages.append(args[0]))
    found = gradients(net, images, labels)
    assert bool((averages[0] == 6.0).all())
    assert bool(found.pop("head.5.weight").any())
    assert bool(found.pop("head.5.bias").any())
    assert not any(bool(value.any()) for value in found.values())


DEVICES: dict[str, Callable[[], ResidentDevice]] = {
    "native": lambda: NativeResident(threads=2),
    "native, portable": lambda: NativeResident(defines=("-DE2_PORTABLE", "-march=x86_64")),
    "torch": TorchResident,
}


@pytest.fixture(params=DEVICES.values(), ids=DEVICES.keys())
def device(request: pytest.FixtureRequest) -> Iterator[ResidentDevice]:
    opened = request.param()
    yield opened
    opened.close()


@pytest.mark.parametrize("block_bits", [16, 8])
def test_steps_equal_those_of_the_spec(model: ResidualNet, device: ResidentDevice, block_bits: int) -> None:
    images, labels = batch(6)
    bits = {"gradient_bits": 8, "block_gradient_bits": block_bits}
    nets = [on(each, model, **bits) for each in (device, SpecResident())]
    found = []
    for net in nets:
        net.policy = FixedSkip({2: [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]})
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            gates = gradients(net, images, labels)["gate 2"]
            optimiser.step()
        logits = net.eval()(images)
        found.append([gates, logits, *net.state_dict().values()])
    for got, want in zip(*found, strict=True):
        assert torch.equal(got, want)


def test_a_step_does_the_work_of_the_full_schedule(model: ResidualNet) -> None:
    net = on(NativeResident(), model)
    images, labels = batch(4)
    gradients(net, images, labels)  # with its trial runs
    ledger = net.resident.context.ledger
    before = {(row.name, row.mode): row for row in ledger.snapshot()}
    gradients(net, images, labels)
    planned = full_rows(describe(model, IMAGE), Kinds(gradient="int16"), calls=1, samples=4)
    wanted = {(row.name, row.mode): row for row in planned}
    done_rows = [row for row in ledger.snapshot() if row.name != TRIAL]
    assert len(planned) == len(done_rows)
    for row in done_rows:
        first, want = before[row.name, row.mode], wanted[row.name, row.mode]
        assert row.calls - first.calls == want.calls
        for count in ("macs", "elementwise", "dram_bytes", "host_bytes"):
            done = getattr(row.counters, count) - getattr(first.counters, count)
            assert done == getattr(want.counters, count), f"{row.name} {row.mode} {count}"
    depthwise = wanted["blocks.0.branch.3", "forward"].counters.macs
    assert depthwise == 4 * 24 * 4 * 4 * 9


def test_mobilenet_is_described_whole() -> None:
    model = mobilenet_v2()
    network = describe(model, (3, 32, 32))
    convs = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert [conv.name for conv in network.convs] == convs
    assert sum(conv.depthwise for conv in network.convs) == 17
    assert [block.shortcut for block in network.blocks].count("identity") == 10
    assert network.stages == 1 + 7 + 1
    kinds = {block.stage: block.last.kind for block in network.blocks}
    assert kinds == {0: "uint8", **dict.fromkeys(range(1, 8), "int8"), 8: "uint8"}
    assert network.last.name == "head.0"


def _grouped(net: ResidualNet) -> str:
    net.blocks[0].branch[0] = nn.Conv2d(8, 24, 1, groups=2, bias=False)
    return "blocks.0.branch.0"


def _another_activation(net: ResidualNet) -> str:
    net.blocks[0].branch[2] = nn.Hardswish()
    return "block 0"


def _activated_sum(net: ResidualNet) -> str:
    net.blocks[1].activation = nn.ReLU()  # would change the signed results of skipped samples
    return "the shortcut of block 1"


def _activated_branch(net: ResidualNet) -> str:
    net.blocks[1].branch.append(nn.ReLU())
    return "the shortcut of block 1"


def _two_activations(net: ResidualNet) -> str:
    net.blocks[0].branch.append(nn.ReLU6())
    net.blocks[0].activation = nn.ReLU()
    return "block 0"


def _pooled_head(net: ResidualNet) -> str:
    net.head.insert(3, nn.MaxPool2d(2))
    return "its head"


def _no_norm(net: ResidualNet) -> str:
    net.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU6())
    return "its stem"


@pytest.mark.parametrize(
    "change",
    [
        _grouped,
        _another_activation,
        _activated_sum,
        _activated_branch,
        _two_activations,
        _pooled_head,
        _no_norm,
    ],
)
def test_other_networks_are_refused(model: ResidualNet, change: Callable[[ResidualNet], str]) -> None:
    what = change(model)
    with pytest.raises(ResidentError) as caught:
        describe(model, IMAGE)
    assert str(caught.value) == (
        f"{what} cannot stay on the device: resident runs take plain and depthwise convolutions with batch "
        "norm and ReLU, ReLU6 or no activation, and shortcuts without parameters; use --set execution=offload"
    )
