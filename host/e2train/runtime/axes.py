# SPDX-License-Identifier: Apache-2.0
"""One direction, rows or columns, of a convolution and of its tiles."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Axis", "Span", "phase_axes", "window_axis"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Consecutive outputs of an axis, with the part of the source that their windows meet."""

    first: int
    count: int
    low: int  # source positions low..high-1
    high: int
    start: int  # the first window's position, counted from low; negative in padding

    @property
    def size(self) -> int:
        """Source positions met."""
        return self.high - self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Windows of ``len(taps)`` positions over a source, one per output, every ``step`` positions."""

    source: int
    count: int
    step: int
    start: int  # position of the first window; negative in padding
    taps: tuple[int, ...]  # the kernel's positions, in the order of the window
    first: int = 0  # outputs go to first, first + every, ... of the result
    every: int = 1

    def reach(self, count: int) -> int:
        """Positions from the first one of the first window to the last one of the last, over ``count``."""
        return (count - 1) * self.step + len(self.taps)

    def span(self, first: int, count: int) -> Span:
        """The outputs ``first`` .. ``first + count - 1``."""
        begin = self.start + first * self.step
        low = min(max(begin, 0), self.source)
        high = max(low, min(begin + self.reach(count), self.source))
        return Span(first=first, count=count, low=low, high=high, start=begin - low)

    def spans(self, size: int) -> list[Span]:
        """All outputs, in spans of at most ``size``."""
        return [self.span(first, min(size, self.count - first)) for first in range(0, self.count, size)]

    def place(self, span: Span) -> slice:
        """Where the outputs of a span go in the result."""
        low = self.first + span.first * self.every
        return slice(low, low + (span.count - 1) * self.every + 1, self.every)


def window_axis(source: int, *, kernel: int, step: int, before: int, count: int) -> Axis:
    """Axis of a convolution as it is written: forward, and for the weight gradient."""
    return Axis(source=source, count=count, step=step, start=-before, taps=tuple(range(kernel)))


def phase_axes(size: int, *, source: int, kernel: int, step: int, before: int) -> list[Axis]:
    """Axes of the input gradient: one for each remainder of the position by the stride.

    Position h = f + step*i gathers ``gy[(h + before - r) / step] * w[r]`` over those taps r where the
    division is exact: r0, r0 + step, ... A phase without taps gives zeros, and has no axis.
    """
    axes = []
    for phase in range(min(step, size)):
        r0 = (phase + before) % step
        taps = tuple(range(r0, kernel, step))[::-1]  # flipped: gy runs forward
        if taps:
            axes.append(
                Axis(
                    source=source,
                    count=-(-(size - phase) // step),
                    step=1,
                    start=(phase + before - r0) // step - (len(taps) - 1),
                    taps=taps,
                    first=phase,
                    every=step,
                )
            )
    return axes
