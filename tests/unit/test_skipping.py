# SPDX-License-Identifier: Apache-2.0
"""Skipped blocks: what a skip leaves alone, and how gates learn."""

import copy

import pytest
import torch
from e2train.devices.emulator import Emulator
from e2train.nn import (
    GATES,
    GatedSkip,
    OffloadContext,
    ResidualBlock,
    SkipPolicy,
    StochasticDepth,
    count_host_macs,
    digits_net,
    offload,
    resnet,
)
from e2train.runtime import Ledger
from e2train.train.optimiser import SignSgd, parameter_groups
from torch import nn


class Fixed(SkipPolicy):
    """Gates that are given."""

    def __init__(self, gates: dict[int, torch.Tensor]) -> None:
        super().__init__()
        self.gates = gates

    def gate(self, index, x):
        return self.gates.get(index)


def small_net(seed: int = 1):
    torch.manual_seed(seed)
    return digits_net()


def gated(net, **settings) -> GatedSkip:
    channels = {index: net.blocks[index].in_channels for index in net.skippable}
    return GatedSkip(channels, blocks=len(net.blocks), **({"skip": 0.3, "weight": 1.0} | settings))


def images(count: int = 6, seed: int = 2) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("offloaded", [False, True])
def test_open_gates_change_nothing(offloaded):
    net = small_net()
    if offloaded:
        offload(net, Emulator())
    other = copy.deepcopy(net)
    other.policy = Fixed({index: torch.ones(6) for index in other.skippable})
    x = images()
    plain, gated_out = net(x), other(x)
    assert torch.equal(plain, gated_out)
    plain.sum().backward()
    gated_out.sum().backward()
    for weight, same in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(weight.grad, same.grad)


def test_samples_that_stay_see_each_other_alone():
    block = small_net().blocks[1].train()
    x = torch.rand(5, 16, 8, 8)
    gate = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0])
    alone = copy.deepcopy(block)(x[[0, 2]])
    out = block(x, gate)
    assert torch.equal(out[[0, 2]], alone)
    assert torch.equal(out[[1, 3, 4]], torch.relu(x[[1, 3, 4]]))


def test_a_single_pixel_is_normalised_by_running_statistics():
    """One value of a channel has no variance; a small image may have shrunk to a pixel."""
    block = small_net().blocks[1].train()
    before = copy.deepcopy(block)
    x = torch.rand(4, 16, 1, 1)
    out = block(x, torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert torch.equal(out[1:2], before.eval()(x[1:2]))
    assert torch.equal(out[[0, 2, 3]], torch.relu(x[[0, 2, 3]]))
    assert block.training
    for now, then in zip(block.buffers(), before.buffers(), strict=True):
        assert torch.equal(now, then)


def test_the_device_computes_what_stays_and_no_more():
    context = OffloadContext(device=Emulator())
    net = offload(small_net(), context)
    net.policy = Fixed({1: torch.tensor([1.0, 0, 0, 0]), 2: torch.zeros(4), 3: torch.ones(4)})
    net(images(4)).sum().backward()
    rows = {(row.name, row.mode): row.counters.macs for row in context.ledger.snapshot()}
    full = 8 * 8 * 16 * 16 * 9
    for mode in ("forward", "grad_input", "grad_weight"):
        assert rows["blocks.0.branch.0", mode] == 4 * full
        assert rows["blocks.1.branch.0", mode] == full
        assert ("blocks.2.branch.0", mode) not in rows
    assert net.runs == (4, 1, 0, 4)


def test_a_block_that_ran_nothing_changes_nothing():
    net = small_net()
    groups = parameter_groups(net, lr=0.1, sign_lr=0.01, sign_weight_decay=1e-2)
    optimiser = SignSgd(groups, momentum=0.9, weight_decay=1e-2)
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"]
    net(images()).sum().backward()
    optimiser.step()  # gives every weight momentum
    before = copy.deepcopy((net.blocks[2].state_dict(), optimiser.state[net.blocks[2].branch[0].weight]))
    net.policy = Fixed({2: torch.zeros(6)})
    optimiser.zero_grad()
    net(images()).sum().backward()
    optimiser.step()
    for name, value in net.blocks[2].state_dict().items():
        assert torch.equal(value, before[0][name]), name
    assert torch.equal(optimiser.state[net.blocks[2].branch[0].weight]["momentum"], before[1]["momentum"])


def test_statistics_move_with_the_share_that_ran():
    block = small_net().blocks[1].train()
    norm = block.branch[1]
    x = torch.rand(4, 16, 8, 8)
    mean = block.branch[0](x[:1]).mean(dim=(0, 2, 3))
    block(x, torch.tensor([1.0, 0, 0, 0]))
    assert torch.allclose(norm.running_mean, 0.1 / 4 * mean, atol=1e-6)
    assert norm.momentum == 0.1


def test_first_block_and_blocks_without_shortcut_never_skip():
    net = resnet(8)
    net.blocks[1] = ResidualBlock(nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1)), shortcut=None)
    assert net.skippable == (2,)


def test_first_blocks_of_stages_may_be_left_alone():
    net = resnet(14)
    assert net.skippable == (1, 2, 3, 4, 5)
    net.skips_stage_starts = False
    assert net.skippable == (1, 3, 5)
    net = resnet(8)
    net.skips_stage_starts = False
    assert net.skippable == ()
    assert StochasticDepth(net.skippable, blocks=3, skip=0.2, seed=0).most == 0


@pytest.mark.parametrize("training", [True, False])
def test_gates_skip_in_training_and_in_evaluation(training):
    net = small_net().train(training)
    net.policy = gated(net).train(training)
    nn.init.constant_(net.policy.out.bias, -9.0)
    net(images())
    assert net.runs == (6, 0, 0, 0)
    nn.init.constant_(net.policy.out.bias, 9.0)
    net(images())
    assert net.runs == (6, 6, 6, 6)


def test_a_decision_is_rounded_and_its_gradient_straight():
    net = small_net()
    policy = gated(net)
    gate = policy.gate(1, torch.rand(8, 16, 8, 8))
    assert set(gate.tolist()) <= {0.0, 1.0}
    gate.sum().backward()
    assert policy.out.bias.grad.item() > 0


def test_the_penalty_opens_closed_gates_and_closes_open_ones():
    for bias, skip, direction in ((-0.2, 0.0, 1), (0.2, 0.75, -1)):
        net = small_net()
        net.policy = gated(net, skip=skip)
        nn.init.constant_(net.policy.out.bias, bias)
        net(images())
        net.policy.penalty().backward()
        assert -direction * net.policy.out.bias.grad.item() > 0  # descent goes the other way


def test_a_closed_gate_opens_again():
    net = small_net()
    net.policy = gated(net, skip=0.0)
    nn.init.constant_(net.policy.out.bias, -1.0)
    optimiser = torch.optim.SGD(net.policy.parameters(), lr=0.5)
    net(images())
    assert sum(net.runs[1:]) == 0
    for _ in range(40):
        optimiser.zero_grad()
        net(images())
        net.policy.penalty().backward()
        optimiser.step()
    assert sum(net.runs[1:]) == 18


def test_the_task_reaches_a_gate_through_samples_that_ran():
    net = small_net()
    net.policy = gated(net)
    nn.init.constant_(net.policy.out.bias, -9.0)
    net(images()).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.policy.parameters())
    nn.init.constant_(net.policy.out.bias, 1.0)
    net(images()).square().sum().backward()
    assert net.policy.out.bias.grad.item() != 0


def test_stochastic_depth_skips_as_often_as_asked():
    policy = StochasticDepth(range(1, 9), blocks=9, skip=0.3, seed=4).train()
    x = torch.zeros(3, 1, 1, 1)
    runs = 0
    for policy.step in range(2000):
        runs += sum(bool(policy.gate(index, x)[0]) for index in range(9))
    assert abs(1 - runs / 18_000 - 0.3) < 0.01  # three standard deviations
    assert policy.eval().gate(8, x).tolist() == [pytest.approx(0.4)] * 3


@pytest.mark.parametrize("skippable", [range(1, 17), [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]])
def test_stochastic_depth_spreads_the_share_over_the_blocks_that_may_skip(skippable):
    policy = StochasticDepth(skippable, blocks=17, skip=0.2, seed=0)
    assert sum(1 - policy.survival(index) for index in skippable) / 17 == pytest.approx(0.2)


def test_stochastic_depth_draws_the_same_again():
    policy = StochasticDepth(range(1, 5), blocks=5, skip=0.4, seed=4).train()
    x = torch.zeros(2, 1, 1, 1)

    def draws():
        return [policy.gate(index, x).tolist() for policy.step in range(20) for index in range(1, 5)]

    assert draws() == draws()


def gate_macs(net, x, *, backward: bool) -> tuple[dict[str, int], int]:
    """MACs of the gates by mode, and those of all convolutions forward, by the ledger."""
    ledger = Ledger()
    net.policy = gated(net)
    count_host_macs(net, ledger)
    out = net(x)
    if backward:
        (out.sum() + net.policy.penalty()).backward()
    macs = {(row.name, row.mode): row.counters.host_macs for row in ledger.snapshot()}
    gates = {mode: count for (name, mode), count in macs.items() if name == GATES}
    convs = sum(count for (name, mode), count in macs.items() if name != GATES and mode == "forward")
    return gates, convs


def test_gates_of_resnet74_cost_less_than_four_parts_in_ten_thousand():
    net = resnet(74)
    gates, convs = gate_macs(net.eval(), torch.rand(1, 3, 32, 32), backward=False)
    embed, each = 10 * (12 * 16 + 12 * 32 + 11 * 64), 4 * 10 * (10 + 10) + 10
    assert (gates, convs) == ({"forward": embed + 35 * each}, 167_952_384)
    assert gates["forward"] < 0.0004 * convs


def test_gates_are_counted_forward_and_backward():
    net = small_net()
    channels = [net.blocks[index].in_channels for index in net.skippable]
    embed, cell, out = 10 * sum(channels), len(channels) * 4 * 10 * (10 + 10), len(channels) * 10
    gates, _ = gate_macs(net, images(6), backward=True)
    assert gates == {
        "forward": 6 * (embed + cell + out),
        "grad_weight": 6 * (embed + cell + out),
        "grad_input": 6 * (cell - 4 * 10 * 10 + out),  # features and the first hidden state want none
    }


@pytest.mark.parametrize("skip", [-0.1, 0.6])
def test_a_share_that_cannot_be_skipped_is_refused(skip):
    policy = StochasticDepth(range(1, 5), blocks=5, skip=skip, seed=0)
    with pytest.raises(ValueError, match=r"^skip must be from 0 to 0.5 here, the most that blocks can skip$"):
        policy.gate(1, torch.ones(2, 1, 1, 1))
    with pytest.raises(ValueError, match=r"^of 1 blocks none can be skipped; use RunAll$"):
        StochasticDepth([], blocks=1, skip=skip, seed=0)
