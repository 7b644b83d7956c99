# SPDX-License-Identifier: Apache-2.0
"""A training step over tensors that stay in a device's memory."""

from e2train.runtime.resident.body import Body, BodyError
from e2train.runtime.resident.kinds import Kinds, body_kinds
from e2train.runtime.resident.network import (
    Activation,
    BlockSpec,
    ConvNorm,
    Network,
    Shortcut,
    padded_order,
)
from e2train.runtime.resident.norm import Moments, NormParameters
from e2train.runtime.resident.operations import TRIAL, Operations
from e2train.runtime.resident.scales import Scales
from e2train.runtime.resident.schedule import full_rows
from e2train.runtime.resident.step import BodyGradients, Choices, Parameters, WeightPolicy

__all__ = [
    "TRIAL",
    "Activation",
    "BlockSpec",
    "Body",
    "BodyError",
    "BodyGradients",
    "Choices",
    "ConvNorm",
    "Kinds",
    "Moments",
    "Network",
    "NormParameters",
    "Operations",
    "Parameters",
    "Scales",
    "Shortcut",
    "WeightPolicy",
    "body_kinds",
    "full_rows",
    "padded_order",
]
