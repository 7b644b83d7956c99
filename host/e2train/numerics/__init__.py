# SPDX-License-Identifier: Apache-2.0
"""The executable spec: rounding, bounds, convolutions and the engine, on integers."""

from e2train.numerics.bounds import ExactnessError, check_exact
from e2train.numerics.conv import conv_forward, conv_grad_input, conv_grad_weight
from e2train.numerics.elementwise import affine, reduce
from e2train.numerics.rounded_conv import rounded_forward, rounded_grad_input
from e2train.numerics.rounding import Ints, dithered_shift, keep_high, round_shift, saturate, wrap

__all__ = [
    "ExactnessError",
    "Ints",
    "affine",
    "check_exact",
    "conv_forward",
    "conv_grad_input",
    "conv_grad_weight",
    "dithered_shift",
    "keep_high",
    "reduce",
    "round_shift",
    "rounded_forward",
    "rounded_grad_input",
    "saturate",
    "wrap",
]
