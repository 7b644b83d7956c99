# SPDX-License-Identifier: Apache-2.0
"""Where the words of the RTL are not those of the native build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from e2hls.checking.native_side import Reference
from e2hls.simulation.harness import SimulationRun

__all__ = ["Difference", "compare"]

_NONE: Mapping[str, frozenset[int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first word of a stream that differs; None where one of the two gives none there."""

    stream: str
    index: int
    native: int | None
    rtl: int | None

    def __str__(self) -> str:
        native, rtl = ("no word" if word is None else f"{word:#x}" for word in (self.native, self.rtl))
        return f"word {self.index} of {self.stream}: native {native}, RTL {rtl}"


def compare(
    reference: Reference,
    run: SimulationRun,
    *,
    processes: int,
    undefined: Mapping[str, frozenset[int]] = _NONE,
) -> tuple[Difference, ...]:
    """The first difference in each stream, other than in words that are ``undefined``.

    The RTL runs on as far as its inputs take it: what it gives beyond the reference's calls must be what more
    calls give, and of one process that reads words no more than calls give without more of them.
    """
    found = []
    for name, want in reference.outputs.items():
        got = run.outputs[name]
        stops = processes == 1 and reference.inputs
        most = len(want) + reference.surplus[name] if stops else None
        allowed = [*want, *reference.further[name]][:most]
        pairs = enumerate(zip(got, allowed, strict=False))
        free = undefined.get(name, frozenset())
        at = next((i for i, (one, other) in pairs if one != other and i not in free), None)
        if at is None and len(got) < len(want):
            at = len(got)
        if at is None and most is not None and len(got) > most:
            at = most
        if at is not None:
            native = allowed[at] if at < len(allowed) else None
            rtl = got[at] if at < len(got) else None
            found.append(Difference(stream=name, index=at, native=native, rtl=rtl))
    return tuple(found)
