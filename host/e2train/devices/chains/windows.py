# SPDX-License-Identifier: Apache-2.0
"""Which windows over the source give which results of a convolution, row by row and column by column."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["NO_TAP", "Columns", "Phase", "phases", "turns"]

NO_TAP = -1  # a position of a window whose weights are zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Every ``every``-th result of an axis from ``first`` on; windows begin at start, start + step, ..."""

    first: int
    every: int
    count: int
    start: int
    step: int
    taps: tuple[int, ...]  # kernel positions in the order of the window

    def reach(self, count: int) -> int:
        """Source positions that ``count`` windows span."""
        return (count - 1) * self.step + len(self.taps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Neighbouring columns of results in which the phases take turns; their windows are equally long."""

    phases: tuple[Phase, ...]
    count: int  # of turns

    @property
    def first(self) -> int:
        """The first column."""
        return self.phases[0].first

    @property
    def width(self) -> int:
        """How many there are."""
        return self.count * len(self.phases)


def phases(size: int, *, kernel: int, step: int, before: int, transposed: bool) -> list[Phase]:
    """The phases of an axis with ``size`` results and ``before`` positions of padding in front.

    A transposed convolution with a step has one for each remainder of the results' positions.

    >>> [(phase.start, phase.taps) for phase in phases(4, kernel=3, step=2, before=1, transposed=True)]
    [(0, (1,)), (0, (2, 0))]
    """
    if not transposed:
        return [Phase(first=0, every=1, count=size, start=-before, step=step, taps=tuple(range(kernel)))]
    found = []
    for first in range(min(step, size)):
        shift, remainder = divmod(first + before, step)
        taps = tuple(range(remainder, kernel, step))[::-1] or (NO_TAP,)
        count = -(-(size - first) // step)
        start = shift - (len(taps) - 1)
        found.append(Phase(first=first, every=step, count=count, start=start, step=1, taps=taps))
    return found


def turns(of_columns: list[Phase]) -> list[Columns]:
    """All phases in turn, as often as the last one comes; then what is left of the first.

    >>> [(part.first, part.width) for part in turns(phases(5, kernel=3, step=2, before=1, transposed=True))]
    [(0, 4), (4, 1)]
    """
    longest = max(len(phase.taps) for phase in of_columns)
    alike = []
    for phase in of_columns:
        lacking = longest - len(phase.taps)
        taps = (NO_TAP,) * lacking + phase.taps
        alike.append(replace(phase, start=phase.start - lacking, taps=taps))
    count = alike[-1].count
    found = [Columns(phases=tuple(alike), count=count)]
    first = of_columns[0]
    if first.count > count:
        rest = replace(
            first, first=first.first + count * first.every, start=first.start + count * first.step, count=1
        )
        found.append(Columns(phases=(rest,), count=1))
    return found
