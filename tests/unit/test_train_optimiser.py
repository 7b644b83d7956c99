# SPDX-License-Identifier: Apache-2.0
"""Sign SGD against torch's SGD, and averaged weights."""

import copy

import pytest
import torch
from e2train.devices.emulator import Emulator
from e2train.nn import Group, OffloadContext, RunAll
from e2train.train.config import PRESETS, RunConfig
from e2train.train.errors import TrainError
from e2train.train.optimiser import Averager, SignSgd, parameter_groups
from e2train.train.session import Session, _lr_factor
from e2train.train.smd import Smd
from torch import nn


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def session(config: RunConfig) -> Session:
    context = OffloadContext(device=Emulator())
    return Session.start(config.changed(execution="offload"), context, context.ledger, Group())


def gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)


def test_without_signs_it_is_sgd():
    ours, theirs = net(), net()
    groups = parameter_groups(ours, lr=0.1, sign_lr=None, sign_weight_decay=9.0)
    optimiser = SignSgd(groups, momentum=0.9, weight_decay=0.01)
    optimiser.param_groups[0]["lr"] = 0.1
    judge = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(5):
        gradients(ours, step)
        gradients(theirs, step)
        optimiser.step()
        judge.step()
    for got, want in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)  # the two add in another order


def test_convolutions_move_by_signs():
    model = net()
    groups = parameter_groups(model, lr=0.1, sign_lr=0.01, sign_weight_decay=0.3)
    optimiser = SignSgd(groups, momentum=0.5, weight_decay=0.1)
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"]
    start = model[0].weight.detach().clone()
    bias = model[0].bias.detach().clone()
    gradients(model, 1)
    sign, bias_gradient = model[0].weight.grad.sign(), model[0].bias.grad.clone()
    optimiser.step()
    torch.testing.assert_close(model[0].weight, start - 0.01 * (sign + 0.3 * start))
    torch.testing.assert_close(model[0].bias, bias - 0.1 * (bias_gradient + 0.1 * bias))


def test_averages_are_means_over_scheduled_steps():
    model = nn.Linear(1, 1, bias=False)
    averager = Averager(model, first=4, every=2)
    for step in range(9):
        nn.init.constant_(model.weight, float(step))
        averager.see(step)
    assert averager.count == 3
    assert averager.apply()
    assert model.weight.item() == 6.0


def test_an_average_goes_on_from_a_checkpoint():
    model = nn.Linear(1, 1, bias=False)
    whole, first, second = (Averager(model, first=0, every=1) for _ in range(3))
    for step in range(6):
        nn.init.constant_(model.weight, 1.7**step)
        whole.see(step)
        first.see(step) if step < 3 else second.see(step)
        if step == 2:
            second.restore(copy.deepcopy(first.state()))
    assert torch.equal(whole.state()["means"]["weight"], second.state()["means"]["weight"])


def test_without_averages_the_weights_stay():
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.detach().clone()
    assert not Averager(model, first=0, every=1).apply()
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(("seed", "dropped"), [(0, 492), (1, 499), (7, 495)])
def test_drops_of_a_seed_are_known(seed, dropped):
    smd = Smd(probability=0.5, seed=seed)
    assert sum(smd.drops(step) for step in range(1000)) == dropped
    assert not any(Smd(probability=0.0, seed=seed).drops(step) for step in range(100))


def test_the_papers_schedule():
    config = RunConfig(preset="digits", schedule="steps", warmup=0.0)
    factors = [_lr_factor(config, step, 64_000) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert factors == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize(
    ("method", "decays"), [("smb-int8", [0.002]), ("signsgd", [0.002, 0.4]), ("e2train", [0.002, 0.4])]
)
def test_signs_have_a_weight_decay_of_their_own(method, decays):
    config = PRESETS["digits"].changed(method=method, weight_decay=0.002, sign_weight_decay=0.4)
    assert [group["weight_decay"] for group in session(config).optimiser.param_groups] == decays


def test_where_nothing_is_to_be_skipped_there_are_no_gates():
    config = PRESETS["digits"].changed(method="e2train")
    assert type(session(config.changed(skip=0.0)).model.policy) is RunAll
    assert type(session(config.changed(skip=0.1)).model.policy) is not RunAll


@pytest.mark.parametrize(("where", "gates"), [("anywhere", ["1", "2", "3"]), ("within-stages", ["1", "3"])])
def test_gates_stand_where_they_are_asked_for(where, gates):
    policy = session(PRESETS["digits"].changed(skip_where=where)).model.policy
    assert list(policy.embed) == gates


@pytest.mark.parametrize(("method", "most"), [("slu", "50.0%"), ("sd", "33.3%")])
def test_what_blocks_within_stages_cannot_skip_is_refused(method, most):
    config = PRESETS["digits"].changed(method=method, skip=0.9, skip_where="within-stages")
    message = (
        f"{method} cannot skip 90.0% of the blocks of digits, only up to {most}; use a smaller --set skip=..."
    )
    with pytest.raises(TrainError) as error:
        session(config)
    assert str(error.value) == message
