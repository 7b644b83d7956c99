# SPDX-License-Identifier: Apache-2.0
"""Whose forward pass a device's memory holds; one pass at a time on each device."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["Turns", "turns_of"]


@dataclass(slots=True, eq=False)
class Turns:
    """Of one device: the number of the forward pass whose tensors are in its memory, and who may use it."""

    number: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)


_OF_DEVICES: WeakKeyDictionary[Any, Turns] = WeakKeyDictionary()
_FIRST = threading.Lock()


def turns_of(device: object) -> Turns:
    """The turns of a device, the same for all models on it."""
    with _FIRST:
        return _OF_DEVICES.setdefault(device, Turns())
