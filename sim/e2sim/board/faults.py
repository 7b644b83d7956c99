# SPDX-License-Identifier: Apache-2.0
"""Faults injected into a simulated board, each at one transfer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["Fault", "FaultKind", "parse_faults"]

FaultKind = Literal["dma-slverr", "drop-connection", "bitflip", "hang"]
_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens at the ``transfer``-th transfer, counted from 1."""

    kind: FaultKind
    transfer: int


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
