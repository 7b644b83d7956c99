# SPDX-License-Identifier: Apache-2.0
"""Layers that compute on a device, their quantisers, and models made of them."""

from e2train.nn.engine import Engine
from e2train.nn.layers import OffloadConv2d
from e2train.nn.models import MODEL_NAMES, ModelError, ResidualBlock, ResNet, build_model, digits_net, resnet
from e2train.nn.offload import HostLayerWarning, offload
from e2train.nn.quantisers import ActInt8, ActUint8, DivergenceError, InputQuant, WeightInt8

__all__ = [
    "MODEL_NAMES",
    "ActInt8",
    "ActUint8",
    "DivergenceError",
    "Engine",
    "HostLayerWarning",
    "InputQuant",
    "ModelError",
    "OffloadConv2d",
    "ResNet",
    "ResidualBlock",
    "WeightInt8",
    "build_model",
    "digits_net",
    "offload",
    "resnet",
]
