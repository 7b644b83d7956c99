# SPDX-License-Identifier: Apache-2.0
"""What an offloaded model holds: copies, averages, and the state that it shares with its float original."""

import copy
import io
import threading
import warnings

import numpy as np
import pytest
import torch
from brevitas.nn import QuantConv2d
from e2train.devices.emulator import Emulator
from e2train.nn import Group, HostLayerWarning, OffloadContext, offload, whole_state
from e2train.nn.quantisers import ActInt8, UnseenRangeWarning
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


@pytest.fixture
def context():
    return OffloadContext(device=Emulator())


def small_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3, groups=2))


def offloaded(net, device):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HostLayerWarning)
        return offload(net, device)


def images(rng, *shape, signed):
    return torch.from_numpy(rng.uniform(-1 if signed else 0, 1, shape).astype(np.float32)).requires_grad_()


class Locked(Emulator):
    """A device that cannot be copied, as one with a connection or threads."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


def test_a_copy_shares_the_device_and_the_ledger(rng):
    context, x = OffloadContext(device=Locked()), images(rng, 2, 3, 6, 6, signed=False).detach()
    net = offloaded(small_net(), context)
    twin = copy.deepcopy(net)
    assert twin[0].context is context
    assert twin[0].weight is not net[0].weight
    assert torch.equal(twin(x), net(x))
    assert [row.calls for row in context.ledger.snapshot()] == [2]


@pytest.mark.parametrize("options", [{}, {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}], ids=["mean", "ema"])
def test_weights_and_buffers_can_be_averaged(rng, options):
    net = offloaded(small_net(), Locked())
    averaged = AveragedModel(net, use_buffers=True, **options)
    for largest in (0.5, -4.0, 1.0):
        net(torch.full((1, 3, 6, 6), largest))
        averaged.update_parameters(net)
    ranges = averaged.module[0].ranges()
    assert [value.item() for key, value in ranges.items() if key.endswith("saw_negative")] == [True]
    assert averaged.eval()(-images(rng, 1, 3, 6, 6, signed=False)).isfinite().all()


def ranges_of(net, *layers):
    """What the layers, by default both convolutions of the small net, have seen."""
    parts = {layer: net[layer].ranges() for layer in layers or (0, 2)}
    return {(layer, key): value.item() for layer, part in parts.items() for key, value in part.items()}


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_float_and_offloaded_models_load_each_others_state(context, rng):
    plain, net = small_net(), offloaded(small_net(), context)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert list(net[0].state_dict()) == list(plain[0].state_dict())
    net(images(rng, 2, 3, 6, 6, signed=True))
    plain.load_state_dict(saved(net.state_dict()))
    assert torch.equal(plain[0].weight, net[0].weight)
    net.load_state_dict(saved(small_net().state_dict()))
    assert not torch.equal(plain[0].weight, net[0].weight)
    assert not any(ranges_of(net).values())  # other weights, new ranges


def test_weights_of_some_layers_leave_the_ranges_of_others(context, rng):
    net = offload(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)), context)
    net(images(rng, 2, 3, 6, 6, signed=True))
    state = net.state_dict()  # whose metadata has ranges, of another model maybe
    del state["0.weight"], state["0.bias"]
    net(2 * images(rng, 2, 3, 6, 6, signed=True))
    before = ranges_of(net, 0)
    net.load_state_dict(state, strict=False)
    assert ranges_of(net, 0) == before
    net.load_state_dict({"1.weight": net[1].weight, "1.bias": net[1].bias}, strict=False)
    assert ranges_of(net, 0) == before
    assert any(before.values())
    assert not any(ranges_of(net, 1).values())  # other weights, new ranges


def test_an_evaluation_without_ranges_is_said(context, rng):
    """A state that is loaded before offload has lost them; scales would follow each batch in silence."""
    trained, late = (offloaded(small_net(), context) for _ in range(2))
    x = images(rng, 2, 3, 6, 6, signed=True)
    trained(x)
    state = saved(trained.state_dict())
    early = small_net()
    early.load_state_dict(state)
    late.load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        late.eval()(x)
        offload(nn.Conv2d(3, 4, 3), context).eval()(torch.zeros(1, 3, 6, 6))
        offload(QuantConv2d(3, 4, 3, input_quant=ActInt8), context)
    with pytest.warns(UnseenRangeWarning, match=r"^no training step has given .* load states after offload"):
        offloaded(early, context).eval()(x)


def test_ranks_share_ranges_after_a_state_is_loaded(rng):
    class Two(Group):
        size = 2

        def max(self, values):
            return values * 4  # the other rank's are larger

    net = offload(nn.Conv2d(3, 4, 3), OffloadContext(device=Emulator(), group=Two()))
    net.load_state_dict(net.state_dict())
    net(torch.ones(1, 3, 6, 6))
    assert max(ranges_of(nn.ModuleList([net]), 0).values()) == 4


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("state_of", [nn.Module.state_dict, whole_state], ids=["metadata", "entries"])
def test_a_state_dict_brings_the_ranges_back(context, rng, state_of, assign):
    net, other = offloaded(small_net(), context), offloaded(small_net(), context)
    for size in (1.0, 0.3):
        net(size * images(rng, 2, 3, 6, 6, signed=True))
    other.load_state_dict(saved(state_of(net)), assign=assign)
    assert ranges_of(other) == ranges_of(net)
    assert any(ranges_of(net).values())
    x = images(rng, 2, 3, 6, 6, signed=False)
    assert torch.equal(other.eval()(x), net.eval()(x))
    AveragedModel(other, use_buffers=True).update_parameters(other)


@pytest.mark.parametrize("state_of", [nn.Module.state_dict, lambda net: dict(whole_state(net))])
def test_a_layer_under_two_names_keeps_its_ranges(context, rng, state_of):
    net, other = (offload(nn.Sequential(*[nn.Conv2d(3, 3, 1)] * 2), context) for _ in range(2))
    net(images(rng, 2, 3, 6, 6, signed=True))
    other.load_state_dict(state_of(net))
    assert ranges_of(other, 0) == ranges_of(net, 0)
    assert any(ranges_of(net, 0).values())


def test_the_whole_state_has_the_ranges_as_entries(context):
    proxy = "act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.running_max"
    whole = whole_state(offload(nn.Conv2d(1, 1, 1), context))
    assert {key: (value.dtype, tuple(value.shape)) for key, value in whole.items() if "quant" in key} == {
        "sign_quant.saw_negative": (torch.bool, ()),
        f"sign_quant.unsigned.{proxy}": (torch.float32, ()),
        f"sign_quant.signed.{proxy}": (torch.float32, ()),
    }
