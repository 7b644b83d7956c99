# SPDX-License-Identifier: Apache-2.0
"""The training methods: which of the three savings each one uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way of training."""

    name: str
    offloads: bool = True  # convolutions on the device, else in float32 on the host
    drops_batches: bool = False  # SMD
    skips: Literal["nothing", "by chance", "by gate"] = "nothing"  # by gate: SLU
    signs: Literal["none", "of gradients", "predicted"] = "none"  # predicted: PSG


METHODS = {
    method.name: method
    for method in (
        Method(name="smb-fp32", offloads=False),
        Method(name="smb-int8"),
        Method(name="sd", skips="by chance"),
        Method(name="smd", drops_batches=True),
        Method(name="slu", skips="by gate"),
        Method(name="signsgd", signs="of gradients"),
        Method(name="psg", signs="predicted"),
        Method(name="e2train", drops_batches=True, skips="by gate", signs="predicted"),
    )
}
