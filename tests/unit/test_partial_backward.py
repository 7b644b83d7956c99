# SPDX-License-Identifier: Apache-2.0
"""Backward passes that end early: layers that are reached get the gradients of a whole one, others none."""

import copy

import numpy as np
import pytest
import torch
from e2train.devices.emulator import Emulator
from e2train.devices.memory import SpecResident
from e2train.energy import load_costs
from e2train.nn import OffloadContext, ResidentBody, ResidualNet, digits_net, freeze, offload
from e2train.train import PRESETS, read_run, run_training
from e2train.train.partial_backward import PartialBackward
from e2train.train.savings import savings

IMAGE = (1, 8, 8)
CONFIG = PRESETS["digits"].changed(
    method="e2train", steps=12, batch=4, seed=7, smd=0.0, skip=0.0, test_images=4, stem_updates=0.3
)


def parts(net: ResidualNet) -> list[str]:
    """The names of stem, blocks and head, in order of use."""
    return ["stem", *(f"blocks.{index}" for index in range(len(net.blocks))), "head"]


def prepared(kind: str, first: int, frozen: str = "") -> ResidualNet:
    torch.manual_seed(1)
    net = digits_net().train()
    freeze(net, frozen)
    if kind == "offload":
        offload(net, Emulator())
    if kind == "resident":
        context = OffloadContext(device=SpecResident(), gradient_bits=8)
        net.resident = ResidentBody(net, context, image=IMAGE)
    net.first_updated = first
    return net


def gradients(net: ResidualNet) -> dict[str, torch.Tensor | None]:
    images = torch.rand(4, *IMAGE, generator=torch.Generator().manual_seed(2))
    loss = torch.nn.functional.cross_entropy(net(images), torch.tensor([0, 3, 5, 9]))
    loss.backward()
    return {name: weight.grad for name, weight in net.named_parameters()}


@pytest.mark.parametrize("kind", ["float32", "offload", "resident"])
@pytest.mark.parametrize("first", range(5))
def test_layers_that_are_reached_get_the_gradients_of_a_whole_pass(kind, first):
    net = prepared(kind, first)
    whole, found = gradients(prepared(kind, 0)), gradients(net)
    reached = tuple(f"{part}." for part in parts(net)[first:])
    assert all(gradient is not None for gradient in whole.values())
    for name, gradient in found.items():
        if name.startswith(reached):
            assert torch.equal(gradient, whole[name]), name
        else:
            assert gradient is None, name
    assert sum(gradient is None for gradient in found.values()) == 3 * (2 * first - 1 if first else 0)


@pytest.mark.parametrize("kind", ["float32", "offload", "resident"])
def test_statistics_move_where_no_gradient_comes(kind):
    net = prepared(kind, 3)
    before = copy.deepcopy(net.state_dict())
    gradients(net)
    moved = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert {"stem.1.running_mean", "blocks.1.branch.1.running_var"} <= {*moved}


@pytest.mark.parametrize("kind", ["offload", "resident"])
def test_an_evaluation_knows_no_first_layer(kind):
    images = torch.rand(2, *IMAGE)
    net, other = prepared(kind, 4), prepared(kind, 0)
    for each in (net, other):
        gradients(each)
        each.eval()
    with torch.no_grad():
        assert torch.equal(net(images), other(images))


def test_frozen_layers_behind_the_first_are_passed_through():
    """A pass that may end at a frozen block ends at the first one behind it that trains."""
    found = gradients(prepared("resident", 1, frozen="stem,blocks.0-1"))
    whole = gradients(prepared("resident", 0, frozen="stem,blocks.0-1"))
    assert {name for name, gradient in whole.items() if gradient is None} == {
        name for name in whole if name.startswith(("stem.", "blocks.0.", "blocks.1."))
    }
    for name, gradient in whole.items():
        assert gradient is found[name] is None or torch.equal(gradient, found[name]), name


@pytest.mark.parametrize("kind", ["float32", "offload", "resident"])
@pytest.mark.parametrize(("frozen", "first"), [("blocks.3", 4), ("blocks.1-3", 2), ("stem,blocks.0-3", 0)])
def test_where_nothing_behind_trains_the_classifier_does(kind, frozen, first):
    found = gradients(prepared(kind, first, frozen=frozen))
    assert {name for name, gradient in found.items() if gradient is not None} == {
        name for name in found if name.startswith("head.")
    }


@pytest.mark.parametrize("kind", ["float32", "offload", "resident"])
@pytest.mark.parametrize("first", [-1, 5])
def test_a_place_that_is_not_there_is_refused(kind, first):
    with pytest.raises(ValueError, match=rf"^first_updated must be in 0..4, not {first}$"):
        gradients(prepared(kind, first))


def test_a_device_computes_nothing_of_what_is_not_reached():
    rows = {}
    for first in (0, 2):
        net = prepared("resident", first)
        gradients(net)
        assert net.resident is not None
        rows[first] = {(row.name, row.mode) for row in net.resident.context.ledger.snapshot()}
    forward = {row for row in rows[0] if row[1] == "forward"}
    assert forward <= rows[2] < rows[0]
    unreached = ("stem.", "blocks.0.")
    assert {mode for name, mode in rows[2] if name.startswith(unreached)} == {"forward", "affine"}
    assert ("blocks.1.branch.0", "grad_input") in rows[0] - rows[2]
    assert ("blocks.1.branch.3", "grad_input") in rows[2]


def test_shares_are_met():
    updates = PartialBackward(stem=0.125, blocks=3, seed=1)
    firsts = np.array([updates.first(step) for step in range(4000)])
    for place, share in enumerate((0.125, 0.25, 0.5, 1.0)):
        assert updates.share(place) == pytest.approx(share)
        assert np.mean(firsts <= place) == pytest.approx(share, abs=0.03)


def test_every_step_updates_all_by_default():
    updates = PartialBackward(stem=1.0, blocks=4, seed=1)
    assert {updates.first(step) for step in range(100)} == {0}


@pytest.mark.parametrize("execution", ["resident", "offload"])
def test_energy_is_saved_by_slu(tmp_path, execution):
    config = CONFIG.changed(execution=execution)
    summary = run_training(config, out=tmp_path / "part")
    whole = run_training(config.changed(stem_updates=1.0), out=tmp_path / "whole")
    assert summary.state_sha256 != whole.state_sha256
    assert whole.energy_factors["slu"] == pytest.approx(1, abs=1e-9)
    assert 0.4 < summary.energy_factors["slu"] < 0.9
    for other in ("widths", "smd"):
        assert summary.energy_factors[other] == whole.energy_factors[other]
    assert summary.energy_factors["psg"] == pytest.approx(whole.energy_factors["psg"], abs=0.05)
    ledger = read_run(tmp_path / "part").ledger
    updates = PartialBackward(stem=0.3, blocks=4, seed=7)
    reached = sum(updates.first(step) == 0 for step in range(12))
    calls = {(row.name, row.mode): row.calls for row in ledger.training}
    assert calls["stem.0", "grad_msb"] == reached
    assert 0 < reached < 12
    assert savings(config, ledger, load_costs()).factors == summary.energy_factors


def test_other_methods_know_no_such_setting():
    for method in ("smb-int8", "smb-fp32", "psg", "sd", "smd", "signsgd"):
        config = PRESETS["digits"].changed(method=method)
        assert config.changed(stem_updates=0.5).hash == config.hash
    slu = PRESETS["digits"].changed(method="slu")
    assert slu.changed(stem_updates=0.5).hash != slu.hash
    assert slu.changed(stem_updates=0.5, skip=0.0).selects_updates
