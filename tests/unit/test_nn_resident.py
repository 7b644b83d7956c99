# SPDX-License-Identifier: Apache-2.0
"""A network with resident tensors against float64 autograd of what it computed, and skipping."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d
from e2train.devices.emulator.resident import TorchResident
from e2train.devices.memory import SpecResident
from e2train.devices.native import NativeResident
from e2train.devices.resident import Affine, Convolution
from e2train.nn import (
    Group,
    OffloadContext,
    ResidentBody,
    ResidualNet,
    SkipPolicy,
    digits_net,
    quantise_weight,
    resnet,
)
from e2train.nn.quantisers import WeightInt8
from resident_recorder import Recorder, same_function, tensors_of
from torch.nn import functional as F  # noqa: N812

IMAGE = (1, 8, 8)
TARGETS = torch.arange(6)
GATES = {
    "no gates": {},
    "some skip": {1: [1.0, 0, 1, 0, 1, 1], 2: [0.0, 0, 0, 1, 0, 0], 3: [0.0, 1, 1, 1, 0, 1]},
    "blocks that none runs": {1: [0.0] * 6, 3: [0.0] * 6},
    "open": {1: [1.0] * 6, 2: [1.0] * 6, 3: [1.0] * 6},
}


class Fixed(SkipPolicy):
    """Gates that are given."""

    def __init__(self, gates: dict[int, torch.Tensor]) -> None:
        super().__init__()
        self.gates = gates

    def gate(self, index, x):
        return self.gates.get(index)


def images(count: int = 6) -> torch.Tensor:
    return torch.rand(count, *IMAGE, generator=torch.Generator().manual_seed(3))


def on_device(net: ResidualNet, device=None, *, image=IMAGE, gradient_bits=16, result_bits=16) -> Recorder:
    """Put a network on a device that records its calls."""
    recorder = Recorder(device)
    context = OffloadContext(device=recorder, gradient_bits=gradient_bits)
    net.resident = ResidentBody(net, context, image=image, result_bits=result_bits)
    return recorder


def digits() -> ResidualNet:
    torch.manual_seed(1)
    return digits_net()


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.detach() - want.detach()).norm() / want.detach().norm())


def step(net: ResidualNet, x: torch.Tensor) -> torch.Tensor:
    out = net(x)
    F.cross_entropy(out, TARGETS[: len(x)]).backward()
    return out


@pytest.fixture(params=GATES.values(), ids=GATES.keys())
def gates(request) -> dict[int, torch.Tensor]:
    return {index: torch.tensor(values, requires_grad=True) for index, values in request.param.items()}


def scaled_to(ints: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return ints * 2.0 ** torch.log2(x.norm() / ints.norm()).round()


# Each gradient is rounded some 20 times to 16 bits, of which a scale may leave 13 in use; 8 bits are 2**8
# times coarser.
@pytest.mark.parametrize(("gradient_bits", "bound"), [(16, 2**-9), (8, 2**-1)])
def test_gradients_are_those_of_float64_autograd(gates, gradient_bits, bound):
    """Of the same activations: what remains is the rounding of gradients alone."""
    net = digits()
    recorder = on_device(net, gradient_bits=gradient_bits)
    net.policy = Fixed(gates)
    x = images()
    step(net, x)  # now scales are known
    net.zero_grad()
    for gate in gates.values():
        gate.grad = None
    before = copy.deepcopy(net.state_dict())
    recorder.clear()
    out = net(x)
    twin, ints = same_function(net, IMAGE, recorder, gates)
    twin.load_state_dict({k: v for k, v in before.items() if "running" in k or "tracked" in k}, strict=False)
    exact_gates = {index: gate.detach().double().requires_grad_() for index, gate in gates.items()}
    twin.policy = Fixed(exact_gates)
    want = step(twin, scaled_to(ints, x.double()))
    F.cross_entropy(out, TARGETS).backward()

    assert relative(out, want) < 1e-6  # the classifier's float32
    for (name, parameter), exact in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert (parameter.grad is None) == (exact.grad is None), name
        if exact.grad is not None:
            assert relative(parameter.grad, exact.grad) < bound, name
    for index, gate in gates.items():
        assert (gate.grad is None) == (exact_gates[index].grad is None)
        if gate.grad is not None:
            assert relative(gate.grad, exact_gates[index].grad) < bound
            assert gate.grad[gate == 0].count_nonzero() == 0
    statistics = dict(net.named_buffers())
    for name, exact in twin.named_buffers():
        torch.testing.assert_close(statistics[name].double(), exact.double(), rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("depth", ["digits", 14])
def test_logits_are_close_to_float_in_training_and_evaluation(depth):
    """Within an eighth: every activation is rounded to 8 bits, of which a scale may leave 6 in use."""
    torch.manual_seed(2)
    net, image = (digits_net(), IMAGE) if depth == "digits" else (resnet(14), (3, 16, 16))
    x = torch.rand(6, *image, generator=torch.Generator().manual_seed(3))
    plain = copy.deepcopy(net).double()
    on_device(net, image=image)
    for _ in range(3):
        got, want = net(x), plain(x.double())
    assert relative(got, want) < 1 / 8
    assert relative(net.eval()(x), plain.eval()(x.double())) < 1 / 8


def test_a_gate_in_evaluation_weighs_the_branch():
    """As stochastic depth wants it."""
    net = digits()
    x = images()
    plain = copy.deepcopy(net).double()
    on_device(net)
    for _ in range(2):
        net(x), plain(x.double())
    weights = {index: torch.full((6,), 0.4) for index in (1, 2, 3)}
    net.eval().policy = Fixed(weights)
    plain.eval().policy = Fixed({index: weight.double() for index, weight in weights.items()})
    got, want = net(x), plain(x.double())
    plain.policy = Fixed({})
    assert relative(got, want) < relative(got, plain(x.double())) / 3
    assert relative(got, want) < 1 / 8


def test_open_gates_change_nothing():
    x, nets = images(), [digits(), digits()]
    for net, gates in zip(nets, ({}, {index: torch.ones(6) for index in (1, 2, 3)}), strict=True):
        on_device(net)
        net.policy = Fixed(gates)
    for _ in range(2):
        outs = [step(net, x) for net in nets]
        assert torch.equal(*outs)
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize(
    "make",
    [NativeResident, lambda: NativeResident(threads=2), TorchResident],
    ids=["native", "native, 2 threads", "torch"],
)
def test_samples_that_skip_give_the_bits_of_the_spec(make, assert_same_bits):
    nets = [digits(), digits()]
    for net, device in zip(nets, (make(), SpecResident()), strict=True):
        on_device(net, device, gradient_bits=8)
        net.policy = Fixed({index: torch.tensor(gate) for index, gate in GATES["some skip"].items()})
        for _ in range(2):
            step(net, images())
    for (name, got), want in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert_same_bits(got.grad.numpy(), want.grad.numpy(), case=name)
    for (name, got), want in zip(nets[0].named_buffers(), nets[1].buffers(), strict=True):
        assert_same_bits(got.numpy(), want.numpy(), case=name)


def of_branch(recorder: Recorder, index: int) -> list:
    return [call for call in recorder.calls if call.name.startswith(f"blocks.{index}.branch.")]


def extents(tensors) -> list[tuple[int, int]]:
    return [(int(at), int(at) + each.sample_bytes) for each in tensors for at in each.offsets]


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_skipped_samples_are_not_touched(mode):
    """No operation of a block reads or writes a byte of what a sample that skips it has."""
    net = digits()
    recorder = on_device(net)
    kept = np.array([0, 2])
    net.policy = Fixed({1: torch.tensor([1.0, 0, 1, 0])})
    x = images(4)
    step(net, x)
    recorder.clear()
    if mode == "training":
        step(net, x)
    else:
        net.eval()(x)
    calls = of_branch(recorder, 1)
    assert {call.mode for call in calls if isinstance(call, Convolution)} == (
        {"forward", "grad_input"} if mode == "training" else {"forward"}
    )
    assert {tensor.N for call in calls for tensor in tensors_of(call)} == {len(kept)}
    before = [call.out for call in of_branch(recorder, 0) if isinstance(call, Affine)]
    came_in = next(
        tensor for tensor in before if tensor.kind == "uint8" and tensor.N == 4 and tensor is before[1]
    )
    went_on = next(call for call in of_branch(recorder, 2) if isinstance(call, Convolution)).source
    skipped = [1, 3]
    assert (went_on.offsets[skipped] == came_in.offsets[skipped]).all()
    assert not (went_on.offsets[kept] == came_in.offsets[kept]).any()
    held = extents([came_in.take(np.array(skipped))])
    touched = extents(tensor for call in calls for tensor in tensors_of(call))
    assert all(
        end <= start or stop <= first for (first, end), (start, stop) in itertools.product(held, touched)
    )


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_a_block_that_all_skip_asks_nothing_of_the_device(mode):
    net = digits()
    recorder = on_device(net)
    net.policy = Fixed({1: torch.zeros(4), 3: torch.zeros(4)})
    x = images(4)
    step(net, x)
    recorder.clear()
    if mode == "training":
        step(net, x)
    else:
        net.eval()(x)
    for index in (1, 3):
        calls = of_branch(recorder, index)
        moves = net.blocks[index].branch[0].stride != (1, 1)
        assert len(calls) == moves * (2 if mode == "training" else 1)  # the strided shortcut and its gradient
        assert all(isinstance(call, Affine) and call.v is None for call in calls)
    assert net.runs == (4, 0, 4, 0)


def test_samples_that_skip_keep_their_bits():
    """What leaves a block for a sample that skips it is what came in."""
    net = digits().eval()
    recorder = on_device(net)
    net.policy = Fixed({1: torch.tensor([1.0, 0, 1, 0])})
    net(images(4))
    came_in = [call.out for call in of_branch(recorder, 0) if isinstance(call, Affine)][-1]
    went_on = next(call for call in of_branch(recorder, 2) if isinstance(call, Convolution)).source
    same = (recorder.read(came_in) == recorder.read(went_on)).all(axis=(1, 2, 3))
    assert same.tolist() == [False, True, False, True]


def test_an_evaluation_leaves_no_trace_and_asks_no_rank(monkeypatch):
    """Scales that it left would make training depend on it; ranks evaluate batches of their own."""

    def asked(self, *values):
        raise AssertionError("another rank, which may not be there")

    net = digits()
    on_device(net)
    net.policy = Fixed({3: torch.zeros(6)})
    step(net, images())
    before = copy.deepcopy(net.state_dict())
    net.policy = Fixed({})
    for name in ("any", "max"):
        monkeypatch.setattr(Group, name, asked)
    net.eval()(10 * images())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    fresh = digits().eval()
    on_device(fresh)
    fresh(images())
    assert fresh.resident.maxima.count_nonzero() == 0


@pytest.mark.parametrize("make", [SpecResident, NativeResident], ids=["spec", "native"])
def test_a_batch_of_one_and_a_larger_one_later(make):
    """Memory is planned again where a batch is larger than those before."""
    net, other = digits(), digits()
    on_device(net, make())
    on_device(other, make())
    for batch in (1, 6, 3, 6):
        step(net, images(batch))
    for batch in (1, 6, 3, 6):
        step(other, images(batch))
        other = copy.deepcopy(other)
    assert torch.equal(net(images()), other(images()))


_EDGES = (0.5, 0.5 - 2**-12, 2**-9, 3 * 2**-9, 5 * 2**-9, 1.0, 1 + 2**-12, 127.5 / 128, 1e-30, 0.0)


@pytest.mark.parametrize("largest", _EDGES)
def test_weights_are_quantised_as_brevitas_does(largest, rng):
    values = np.concatenate([[largest, -largest, largest / 2], rng.uniform(-largest, largest, 6)])
    conv = QuantConv2d(1, 1, 3, weight_quant=WeightInt8, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(values).reshape(1, 1, 3, 3))
    want = conv.quant_weight()
    ints, exponent = quantise_weight(conv.weight)
    assert torch.equal(ints, want.int())
    assert 2.0**exponent == want.scale.item()
