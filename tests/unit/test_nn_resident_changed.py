# SPDX-License-Identifier: Apache-2.0
"""A model on a device that is changed, copied, traced or run beside others: followed, or refused."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from e2train.devices import open_device, open_resident
from e2train.devices.memory import SpecResident
from e2train.nn import (
    GatedSkip,
    OffloadContext,
    OffloadConv2d,
    PaddedShortcut,
    ResidentBody,
    ResidentError,
    ResidualNet,
    digits_net,
    offload,
)
from torch import nn

IMAGE = (1, 8, 8)
IMAGES = torch.rand((4, *IMAGE), generator=torch.Generator().manual_seed(1))


def on_device(seed: int = 4, device=None) -> ResidualNet:
    torch.manual_seed(seed)
    net = digits_net()
    context = OffloadContext(device=device or SpecResident(), gradient_bits=8)
    net.resident = ResidentBody(net, context, image=IMAGE)
    return net


def test_another_model_on_the_device_takes_its_memory():
    device = SpecResident()
    student, teacher = on_device(1, device), on_device(2, device).eval()
    loss = student(IMAGES).square().sum()
    with torch.no_grad():
        teacher(IMAGES)
    with pytest.raises(RuntimeError, match=r"before the next forward pass of any model on the device$"):
        loss.backward()
    student.zero_grad()
    student(IMAGES).square().sum().backward()
    alone = on_device(1)
    alone(IMAGES)
    alone(IMAGES).square().sum().backward()
    for mine, other in zip(student.parameters(), alone.parameters(), strict=True):
        assert mine.grad is not None
        assert torch.equal(mine.grad, other.grad)


def test_threads_take_turns():
    net = on_device(device=open_resident("emulator"))
    net(IMAGES).square().sum().backward()
    batches = [torch.rand((2, *IMAGE), generator=torch.Generator().manual_seed(seed)) for seed in range(12)]

    def evaluate(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return net(batch)

    net.eval()
    want = [evaluate(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(evaluate, batches))
    assert all(map(torch.equal, found, want))


def _set(path: str, **settings):
    def change(net: ResidualNet) -> None:
        for name, value in settings.items():
            setattr(net.get_submodule(path), name, value)

    return change


CHANGES = {
    "a convolution": (_set("stem", **{"0": nn.Conv2d(1, 16, 3, padding=1, bias=False)}), "stem.0"),
    "a batch norm": (_set("blocks.0.branch", **{"1": nn.BatchNorm2d(16, eps=10)}), "blocks.0.branch.1"),
    "an activation": (_set("blocks.1", activation=nn.Sigmoid()), "blocks.1.activation"),
    "a shortcut": (_set("blocks.1", shortcut=None), "blocks.1.shortcut"),
    "a wider shortcut": (_set("blocks.2", shortcut=PaddedShortcut(16, stride=1)), "blocks.2.shortcut"),
    "a block less": (lambda net: net.blocks.pop(3), "blocks.3"),
    "pooling": (_set("head", **{"0": nn.AdaptiveMaxPool2d(1)}), "head.0"),
    "a stride": (_set("blocks.0.branch.0", stride=(2, 2)), "blocks.0.branch.0"),
    "padding": (_set("stem.0", padding=(0, 0)), "stem.0"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_layer_that_is_changed_later_is_refused(name):
    change, layer = CHANGES[name]
    net = on_device()
    net(IMAGES)
    change(net)
    with pytest.raises(ResidentError) as refused:
        net(IMAGES)
    assert str(refused.value).startswith(f"{layer}"), refused.value
    assert str(refused.value).endswith(
        " was replaced or set otherwise after the ResidentBody was made, which the device does not follow; "
        "make a new ResidentBody"
    )


def test_the_classifier_may_change():
    net = on_device()
    net(IMAGES)
    net.head[-1] = nn.Linear(net.head[-1].in_features, 3)
    assert net(IMAGES).shape == (4, 3)
    net.head[-1].register_forward_hook(lambda layer, given, found: 2 * found)
    assert copy.deepcopy(net)(IMAGES).shape == (4, 3)


@pytest.mark.parametrize(
    "hook",
    [
        lambda net: net.head.register_forward_hook(lambda *called: None),
        lambda net: net.blocks[0].register_full_backward_hook(lambda *called: None),
        lambda net: net.stem[0].register_full_backward_pre_hook(lambda *called: None),
        lambda net: setattr(net.stem[0], "forward", lambda x: x),
    ],
    ids=["head", "backward", "before backward", "forward"],
)
def test_what_torch_would_call_is_refused(hook):
    net = on_device()
    hook(net)
    with pytest.raises(ResidentError, match=r"^(head|blocks\.0|stem\.0) has hooks, a forward of its own or "):
        net(IMAGES)


TRACERS = {
    "torch.jit.trace": lambda net: torch.jit.trace(net, IMAGES, check_trace=False),
    "torch.export": lambda net: torch.export.export(net, (IMAGES,)),
    "torch.func (vmap, grad and others)": lambda net: torch.vmap(net)(IMAGES[None]),
}


@pytest.mark.parametrize("tracer", TRACERS)
def test_tracing_is_refused(tracer):
    net = on_device().eval()
    with pytest.raises(NotImplementedError) as error, torch.no_grad():
        TRACERS[tracer](net)
    assert str(error.value) == (
        f"the model: {tracer} cannot follow a convolution on a device; use it on a model that is not "
        "offloaded"
    )


def test_a_compiled_model_computes_the_same():
    net, twin = on_device(), on_device()
    compiled = torch.compile(net, backend="eager")
    assert torch.equal(compiled(IMAGES), twin(IMAGES))


def test_a_copy_of_gates_is_without_those_of_the_batch():
    net = on_device()
    channels = {index: net.blocks[index].in_channels for index in net.skippable}
    net.policy = GatedSkip(channels, blocks=len(net.blocks), skip=0.3, weight=1.0)
    net(IMAGES)
    twin = copy.deepcopy(net)
    assert net.policy.penalty() is not None
    assert twin.policy.penalty() is None
    assert torch.equal(twin.eval()(IMAGES), net.eval()(IMAGES))


def test_images_of_integers_are_taken_as_floats():
    net = on_device()
    assert torch.equal(net((255 * IMAGES).byte()), on_device()((255 * IMAGES).byte().float()))


def test_a_model_has_one_way_to_a_device():
    net = on_device()
    with pytest.raises(TypeError, match=r"^the model has a ResidentBody, .*; set resident to None$"):
        offload(net, open_device("emulator"))
    assert not any(isinstance(layer, OffloadConv2d) for layer in net.modules())
    net.resident = None
    with pytest.raises(TypeError, match=r"^the device must be one of open_device, not .* of open_resident$"):
        offload(net, OffloadContext(device=SpecResident()))
    assert isinstance(offload(net, open_device("emulator")).stem[0], OffloadConv2d)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 2.0}, "decay must be in 0..1, not 2.0"),
        ({"decay": float("nan")}, "decay must be in 0..1, not nan"),
        ({"gradient_range": 0.0}, "gradient_range must be above 0 and at most 1, not 0.0"),
        ({"image": (8, 8)}, "image must be the shape (C, H, W) of what comes in, not (8, 8)"),
    ],
)
def test_settings_that_are_none_are_refused(settings, message):
    with pytest.raises(ResidentError) as refused:
        ResidentBody(digits_net(), OffloadContext(device=SpecResident()), **{"image": IMAGE} | settings)
    assert str(refused.value) == message


def test_another_kind_of_model_is_refused():
    with pytest.raises(
        ResidentError, match=r"^the model must be a ResidualNet, not Sequential; use offload$"
    ):
        ResidentBody(nn.Sequential(), OffloadContext(device=SpecResident()), image=IMAGE)
