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
    an operand belongs to a dimension if the source has it as an index there, alone, or if it is the counter
    of a loop that stays within the dimension.
    """
    free = alone and len(dims) == 1
    parts: list[list[_Part]] = [[] for _ in dims]
    extents = tuple(dim * each for dim, each in zip(dims, strides, strict=True))
    for stride, operand in pointer.terms:
        if stride == 0:
            continue
        part = _part(stride, operand, strides, extents, walks, free=free)
        if part is None:
            return None
        parts[part.dimension].append(part)
    rest = pointer.offset + sum(part.walk.first for of in parts for part in of if part.walk)
    indices = []
    for of, dim, each in zip(parts, dims, strides, strict=True):
        constant, rest = divmod(rest, each)
        if of and not free and not _stays(of, constant, dim, each):
            return None
        constant -= sum(part.walk.first // each for part in of if part.walk)
        indices.append(Index(constant, tuple(part.term for part in of)))
    return indices, rest


@dataclass(frozen=True, slots=True)
class _Part:
    """What an operand adds to the index of a dimension; ``walk`` is in bytes, None for an index as it is."""

    dimension: int
    term: tuple[int, str, int]
    walk: Walk | None


def _part(
    stride: int,
    operand: str,
    strides: tuple[int, ...],
    extents: tuple[int, ...],
    walks: Mapping[str, Walk],
    *,
    free: bool,
) -> _Part | None:
    """``extents`` are the dimensions in bytes."""
    if free and stride % strides[0] == 0:
        return _Part(0, (stride // strides[0], operand, 1), None)
    walk = walks.get(operand.split()[-1])
    if is_hidden(operand):
        at = next((i for i, each in enumerate(strides) if stride % each == 0), None)
        far = walk and max(walk.first, walk.last) * stride >= extents[0 if at is None else at]
        if at is None or (is_step(operand) and far):
            return None
        return _Part(at, (stride // strides[at], operand, 1), None)
    at = next((i for i, each in enumerate(strides) if walk and walk.step * stride % each == 0), None)
    if walk is None or at is None:
        return None
    factor, divisor = max(1, stride // strides[at]), max(1, strides[at] // stride)
    odd = divisor & (divisor - 1) and min(walk.first, walk.last) < 0
    if factor * strides[at] != divisor * stride or odd:
        return None
    in_bytes = Walk(walk.first * stride, walk.last * stride, walk.step * stride)
    return _Part(at, (factor, operand, divisor), in_bytes)


def _stays(parts: list[_Part], constant: int, dim: int, each: int) -> bool:
    """Whether it is known that an index is of its dimension alone; ``constant`` is where walks begin."""
    if any(part.walk is None for part in parts):
        return len(parts) == 1 and not constant
    steps = [(part.walk.last - part.walk.first) // each for part in parts if part.walk]
    low, high = (constant + sum(pick(0, step) for step in steps) for pick in (min, max))
    return low >= 0 and high < dim
