# SPDX-License-Identifier: Apache-2.0
"""A training step over tensors that stay in a device's memory."""

from e2train.runtime.resident.body import (
    Body,
    BodyError,
    BodyGradients,
    Choices,
    Parameters,
    WeightPolicy,
    body_kinds,
)
from e2train.runtime.resident.network import BlockSpec, ConvNorm, Network, padded_order
from e2train.runtime.resident.norm import Moments, NormParameters
from e2train.runtime.resident.operations import TRIAL, Operations
from e2train.runtime.resident.scales import Scales
from e2train.runtime.resident.schedule import full_rows

__all__ = [
    "TRIAL",
    "BlockSpec",
    "Body",
    "BodyError",
    "BodyGradients",
    "Choices",
    "ConvNorm",
    "Moments",
    "Network",
    "NormParameters",
    "Operations",
    "Parameters",
    "Scales",
    "WeightPolicy",
    "body_kinds",
    "full_rows",
    "padded_order",
]
