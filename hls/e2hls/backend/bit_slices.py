# SPDX-License-Identifier: Apache-2.0
"""Bit patterns as runs of bits of XLS nodes, so that packing and unpacking of wide words costs nothing.

A shift, mask, truncation or concatenation by constants only rearranges runs; no node is made for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Part", "Value", "concat", "constant", "disjoint", "mask_runs", "overlay", "shifted_left"]


@dataclass(frozen=True, slots=True)
class Part:
    """``width`` bits: those of ``node`` from bit ``low`` on, or the constant ``low`` where node is empty."""

    width: int
    node: str
    low: int

    def cut(self, start: int, width: int) -> Part:
        if self.node:
            return Part(width, self.node, self.low + start)
        return Part(width, "", self.low >> start & ((1 << width) - 1))


@dataclass(frozen=True, slots=True)
class Value:
    """Runs of bits, lowest first."""

    parts: tuple[Part, ...]

    @property
    def width(self) -> int:
        return sum(part.width for part in self.parts)

    @property
    def const(self) -> int | None:
        """The value, where it is a constant."""
        return self.parts[0].low if len(self.parts) == 1 and not self.parts[0].node else None

    def is_zero(self) -> bool:
        return self.const == 0

    def is_ones(self) -> bool:
        return self.const == (1 << self.width) - 1

    def cut(self, start: int, width: int) -> Value:
        """Bits ``start`` to ``start + width - 1``."""
        out, at = [], 0
        for part in self.parts:
            low, high = max(start, at), min(start + width, at + part.width)
            if low < high:
                out.append(part.cut(low - at, high - low))
            at += part.width
        return _value(out)


def constant(width: int, value: int) -> Value:
    return Value((Part(width, "", value & ((1 << width) - 1)),))


def concat(low_first: Iterable[Value]) -> Value:
    return _value([part for value in low_first for part in value.parts])


def shifted_left(value: Value, by: int) -> Value:
    """As wide as ``value``."""
    if by >= value.width:
        return constant(value.width, 0)
    return value if by == 0 else concat((constant(by, 0), value.cut(0, value.width - by)))


def overlay(a: Value, b: Value) -> Value | None:
    """``a | b`` where no bit needs a gate, else None."""
    out: list[Part] = []
    for left, right in _aligned(a, b):
        if left == right or _is(left, 0) or _is(right, -1):
            out.append(right)
        elif _is(right, 0) or _is(left, -1):
            out.append(left)
        elif not left.node and not right.node:
            out.append(Part(left.width, "", left.low | right.low))
        else:
            return None
    return _value(out)


def mask_runs(value: Value, mask: int, *, at_most: int = 8) -> Value | None:
    """``value & mask`` as runs, or None where the mask has too many of them."""
    out: list[Value] = []
    at = 0
    while at < value.width:
        bit, rest = mask >> at & 1, mask >> at
        flipped = ~rest if bit else rest
        length = (flipped & -flipped).bit_length() - 1 if flipped else value.width - at
        length = min(length, value.width - at)
        out.append(value.cut(at, length) if bit else constant(length, 0))
        at += length
        if len(out) > at_most:
            return None
    return concat(out)


def _is(part: Part, number: int) -> bool:
    """Whether the part is a constant that equals ``number`` modulo its width."""
    return not part.node and part.low == number % (1 << part.width)


def _aligned(a: Value, b: Value) -> Iterator[tuple[Part, Part]]:
    """Both values in runs of equal width."""
    left, right = list(reversed(a.parts)), list(reversed(b.parts))
    while left and right:
        one, other = left.pop(), right.pop()
        width = min(one.width, other.width)
        if one.width > width:
            left.append(one.cut(width, one.width - width))
        if other.width > width:
            right.append(other.cut(width, other.width - width))
        yield one.cut(0, width), other.cut(0, width)


def _value(parts: list[Part]) -> Value:
    """Join runs that continue each other."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if last and not last.node and not part.node:
            out[-1] = Part(last.width + part.width, "", last.low | part.low << last.width)
        elif last and last.node and last.node == part.node and last.low + last.width == part.low:
            out[-1] = Part(last.width + part.width, last.node, last.low)
        else:
            out.append(part)
    return Value(tuple(out))


def disjoint(a: Value, b: Value) -> bool:
    """Whether no bit can be set in both."""

    def spans(value: Value) -> int:
        mask, at = 0, 0
        for part in value.parts:
            bits = (1 << part.width) - 1 if part.node else part.low
            mask |= bits << at
            at += part.width
        return mask

    return spans(a) & spans(b) == 0
