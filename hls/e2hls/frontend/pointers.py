# SPDX-License-Identifier: Apache-2.0
"""Addresses as a variable plus a sum of indices times strides."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from e2hls.frontend.layout import Layout
from e2hls.frontend.llvm_text import split_operands

__all__ = ["Pointer", "gep", "split_index"]

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


def split_index(
    pointer: Pointer, strides: tuple[int, ...]
) -> tuple[list[tuple[int, list[tuple[int, str]]]], int] | None:
    """For each dimension a constant and the operands with their factors; and the byte within the element.

    None where the address does not move by whole elements.
    """
    terms: list[list[tuple[int, str]]] = [[] for _ in strides]
    for stride, operand in pointer.terms:
        if stride == 0:
            continue
        at = next((i for i, each in enumerate(strides) if stride % each == 0), None)
        if at is None:
            return None
        terms[at].append((stride // strides[at], operand))
    # Towards zero, so that [i][j - 1] stays in its row.
    sign, rest = (-1 if pointer.offset < 0 else 1), abs(pointer.offset)
    constants = []
    for each in strides:
        constants.append(sign * (rest // each))
        rest %= each
    if rest and sign < 0:
        constants[-1], rest = constants[-1] - 1, strides[-1] - rest
    return list(zip(constants, terms, strict=True)), rest
