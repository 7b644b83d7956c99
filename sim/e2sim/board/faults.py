# SPDX-License-Identifier: Apache-2.0
"""Faults injected into a simulated board, each at one transfer.

``dma-slverr``, ``bitflip`` and ``hang`` happen to the transfer; ``drop-connection``, ``restart`` and
``silent`` to the whole board, while the transfer is under way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["OF_THE_BOARD", "Fault", "FaultKind", "FaultPlan", "parse_faults"]

FaultKind = Literal["dma-slverr", "drop-connection", "bitflip", "hang", "restart", "silent"]
_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
OF_THE_BOARD: tuple[FaultKind, ...] = ("drop-connection", "restart", "silent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens at the ``transfer``-th transfer, counted from 1."""

    kind: FaultKind
    transfer: int


class FaultPlan:
    """The faults that are still to come, and the transfers so far; they outlast a restart of the board."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.transfers = 0
        self._kinds: dict[int, FaultKind] = {}
        self._lock = threading.Lock()
        for fault in faults:
            self.add(fault)

    @property
    def left(self) -> int:
        """How many are still to come."""
        return len(self._kinds)

    def add(self, fault: Fault) -> None:
        """Plan one more."""
        with self._lock:
            self._kinds[fault.transfer] = fault.kind

    def started(self) -> FaultKind | None:
        """Count a transfer, and give the fault that it is to have."""
        with self._lock:
            self.transfers += 1
            return self._kinds.pop(self.transfers, None)


def parse_faults(texts: Iterable[str]) -> tuple[Fault, ...]:
    """Faults from texts such as ``hang@3``.

    Raises: ValueError for anything else.

    >>> parse_faults(["hang@3"])
    (Fault(kind='hang', transfer=3),)
    """
    return tuple(_parse(text) for text in texts)


def _parse(text: str) -> Fault:
    name, _, number = text.partition("@")
    kind = next((kind for kind in _KINDS if kind == name), None)
    if kind is None or not number.isdecimal() or int(number) < 1:
        raise ValueError(f"a fault is KIND@N with KIND one of {', '.join(_KINDS)} and N from 1, not {text!r}")
    return Fault(kind=kind, transfer=int(number))
