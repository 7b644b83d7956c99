# SPDX-License-Identifier: Apache-2.0
"""Addresses as a variable plus a sum of indices times strides."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from e2hls.frontend.hidden_indices import is_hidden, is_step
from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import split_operands
from e2hls.frontend.walks import Walk

__all__ = ["Index", "Pointer", "gep", "split_index"]

_FLAGS = re.compile(r"^getelementptr (?:(?:inbounds|nusw|nuw) )*(?:inrange\([^)]*\) )?")


@dataclass(frozen=True, slots=True)
class Pointer:
    """``base`` + ``offset`` bytes + the sum of ``stride`` bytes times the value of ``operand``."""

    base: str
    offset: int = 0
    terms: tuple[tuple[int, str], ...] = ()  # (stride, typed operand such as "i64 %i")

    def moved(self, offset: int, terms: tuple[tuple[int, str], ...] = ()) -> Pointer:
        """The address so much further on."""
        return Pointer(self.base, self.offset + offset, self.terms + terms)


def gep(body: str, layout: Layout, resolve: Callable[[str], Pointer]) -> Pointer:
    """The address that a ``getelementptr`` computes; ``resolve`` gives that of its base operand."""
    text = _FLAGS.sub("", body)
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    kind, base, *indices = split_operands(text)
    pointer = resolve(base.removeprefix("ptr "))
    for position, index in enumerate(indices):
        value = index.split()[-1]
        if position == 0:
            kind, stride = kind, layout.size(kind)
        else:
            step = layout.step(kind)
            if step is None:
                kind, offset = layout.fields(kind)[int(value)]
                pointer = pointer.moved(offset)
                continue
            kind, stride = step
        if re.fullmatch(r"-?\d+", value):
            pointer = pointer.moved(int(value) * stride)
        else:
            pointer = pointer.moved(0, ((stride, index),))
    return pointer


@dataclass(frozen=True, slots=True)
class Index:
    """A constant plus the sum of operands, each times its factor and divided by its divisor without rest."""

    constant: int
    terms: tuple[tuple[int, str, int], ...] = ()  # factor, operand, divisor


def split_index(
    pointer: Pointer,
    dims: tuple[int, ...],
    strides: tuple[int, ...],
    walks: Mapping[str, Walk],
    *,
    alone: bool,
) -> tuple[list[Index], int] | None:
    """The index in each dimension, and the byte within the element; None where it is not of this array.

    ``alone``: the array is all of its variable. If it has one dimension as well, any sum is its index. Else
    it must be known that the index in each dimension stays within that, since then there is one way alone to
    take an address apart. The source says so of an index behind an array; of others, ``walks`` do.
    """
    free = alone and len(dims) == 1
    parts: list[list[_Part]] = [[] for _ in dims]
    for stride, operand in pointer.terms:
        if stride == 0:
            continue
        part = _part(stride, operand, strides, walks, free=free)
        if part is None:
            return None
        parts[part.dimension].append(part)
    rest = pointer.offset + sum(part.start for of in parts for part in of)
    indices = []
    for of, dim, each in zip(parts, dims, strides, strict=True):
        constant, rest = divmod(rest, each)
        if of and not free and not _stays(of, constant, dim, each):
            return None
        constant -= sum(part.start // each for part in of)
        indices.append(Index(constant, tuple(part.term for part in of)))
    return indices, rest


@dataclass(frozen=True, slots=True)
class _Part:
    """What an operand adds to the index of a dimension.

    In bytes: ``start`` is where a pointer begins to walk, ``reach`` how far down and up from there it comes,
    if that is known. An index behind an array is within its dimension, whatever else is known.
    """

    dimension: int
    term: tuple[int, str, int]
    start: int = 0
    reach: tuple[int, int] | None = None
    within: bool = False


def _part(
    stride: int, operand: str, strides: tuple[int, ...], walks: Mapping[str, Walk], *, free: bool
) -> _Part | None:
    if free and stride % strides[0] == 0:
        return _Part(0, (stride // strides[0], operand, 1))
    walk = walks.get(operand.split()[-1])
    low, high = sorted((walk.first * stride, walk.last * stride)) if walk else (0, 0)
    if is_hidden(operand):
        at = next((i for i, each in enumerate(strides) if stride % each == 0), None)
        if at is None:
            return None
        reach = (low, high) if walk else None
        return _Part(at, (stride // strides[at], operand, 1), reach=reach, within=not is_step(operand))
    at = next((i for i, each in enumerate(strides) if walk and walk.step * stride % each == 0), None)
    if walk is None or at is None:
        return None
    factor, divisor = max(1, stride // strides[at]), max(1, strides[at] // stride)
    odd = divisor & (divisor - 1) and min(walk.first, walk.last) < 0
    if factor * strides[at] != divisor * stride or odd:
        return None
    start = walk.first * stride
    return _Part(at, (factor, operand, divisor), start, (low - start, high - start))


def _stays(parts: list[_Part], constant: int, dim: int, each: int) -> bool:
    """Whether it is known that an index is within its dimension; ``constant`` is where it starts from."""
    if len(parts) == 1 and parts[0].within and not constant:
        return True
    if not all(part.reach for part in parts):
        return False
    low, high = (constant + sum(part.reach[end] // each for part in parts if part.reach) for end in (0, 1))
    return low >= 0 and high < dim
