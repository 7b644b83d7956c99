# SPDX-License-Identifier: Apache-2.0
"""Models: known sizes, 3x3 kernels only, shortcuts without parameters."""

from contextlib import closing

import pytest
import torch
from e2train.config import load_config
from e2train.devices import open_resident
from e2train.nn import MODEL_NAMES, ModelError, PaddedShortcut, build_model, digits_net, resnet, resnet18
from e2train.nn.bench import BenchStep
from torch import nn


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269_722), (110, 1_727_962)])
def test_resnet_has_the_published_size(depth, parameters):
    assert sum(p.numel() for p in resnet(depth).parameters()) == parameters


def test_resnet18_has_the_published_size():
    assert sum(p.numel() for p in resnet18().parameters()) == 11_689_512
    assert len(resnet18().skippable) == 7


@pytest.mark.parametrize("classes", [10, 100])
def test_mobilenet_has_the_published_size_with_a_classifier_of_its_own(classes):
    net, image = build_model("mobilenetv2", classes=classes)
    assert sum(p.numel() for p in net.parameters()) == 3_504_872 - 1281 * 1000 + 1281 * classes
    assert net.eval()(torch.zeros(1, *image)).shape == (1, classes)
    assert len(net.skippable) == 10  # as many blocks keep their width and size


def test_digits_net_is_the_preset():
    net = digits_net()
    assert len(net.blocks) == 4
    assert {conv.kernel_size for conv in net.modules() if isinstance(conv, nn.Conv2d)} == {(3, 3)}
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_shortcut_takes_every_second_pixel_and_pads_channels():
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    y = PaddedShortcut(2, stride=2)(x)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not y[:, [0, 3]].any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg", f"no model 'vgg'; there are: {', '.join(MODEL_NAMES)}"),
        ("resnet21", "a ResNet of 3 stages has depth 6n + 2, not 21"),
        ("resnet2", "a ResNet of 3 stages has depth 6n + 2, not 2"),
    ],
)
def test_unknown_model_is_refused(name, message):
    with pytest.raises(ModelError) as error:
        build_model(name)
    assert str(error.value) == message


def test_a_bench_step_covers_every_mac_of_the_model():
    step = BenchStep("resnet20", load_config("pynq_z2"), batch=2)
    with closing(open_resident("emulator")) as device:
        ledger, cycles = step.run(device)
    assert cycles is None
    rows = step.by_shape(ledger)
    forward = [row for row in rows if row.mode == "forward"]
    assert sum(row.count for row in forward) == 19
    assert [row.layer for row in forward if row.first] == ["stem.0"]
    assert sum(row.macs for row in forward) == 2 * 40_550_400  # 40.55 M, classifier apart
