# SPDX-License-Identifier: Apache-2.0
"""Layers that compute on a device, their quantisers, and models made of them."""

from e2train.nn.context import OffloadContext
from e2train.nn.freezing import freeze
from e2train.nn.host_macs import GATES, count_host_macs
from e2train.nn.layers import OffloadConv2d
from e2train.nn.models import (
    MODEL_NAMES,
    ModelError,
    build_model,
    digits_net,
    image_shape,
    mobilenet_v2,
    resnet,
    resnet18,
)
from e2train.nn.offload import HostLayerWarning, offload, whole_state
from e2train.nn.parallel import Group, share
from e2train.nn.quantisers import (
    ActInt8,
    ActUint8,
    DivergenceError,
    InputQuant,
    NonFiniteInputError,
    UnseenRangeWarning,
    WeightInt8,
)
from e2train.nn.resident import ResidentBody, quantise_weight
from e2train.nn.resident_network import ResidentError, describe
from e2train.nn.residual import PaddedShortcut, ResidualBlock, ResidualNet
from e2train.nn.skipping import GatedSkip, RunAll, SkipPolicy, StochasticDepth

__all__ = [
    "GATES",
    "MODEL_NAMES",
    "ActInt8",
    "ActUint8",
    "DivergenceError",
    "GatedSkip",
    "Group",
    "HostLayerWarning",
    "InputQuant",
    "ModelError",
    "NonFiniteInputError",
    "OffloadContext",
    "OffloadConv2d",
    "PaddedShortcut",
    "ResidentBody",
    "ResidentError",
    "ResidualBlock",
    "ResidualNet",
    "RunAll",
    "SkipPolicy",
    "StochasticDepth",
    "UnseenRangeWarning",
    "WeightInt8",
    "build_model",
    "count_host_macs",
    "describe",
    "digits_net",
    "freeze",
    "image_shape",
    "mobilenet_v2",
    "offload",
    "quantise_weight",
    "resnet",
    "resnet18",
    "share",
    "whole_state",
]
