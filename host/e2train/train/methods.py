# SPDX-License-Identifier: Apache-2.0
"""What a training method saves, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["METHODS", "Method"]


def _never(step: int) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way of training: where the convolutions run, and which steps run at all."""

    name: str
    offloads: bool  # convolutions on the device, else in float32 on the host
    drops: Callable[[int], bool] = _never  # asked before the batch is loaded


METHODS = {
    method.name: method
    for method in (
        Method(name="smb-fp32", offloads=False),
        Method(name="smb-int8", offloads=True),
    )
}
