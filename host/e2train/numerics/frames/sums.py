# SPDX-License-Identifier: Apache-2.0
"""Sums of planes as words of a reply: of four channels at a time two words of two sums, four of products."""

from __future__ import annotations

import numpy as np

from e2train.numerics.frames.layout import PIXEL_LANES, Mode, Words
from e2train.numerics.rounding import Ints, wrap

__all__ = [
    "PRODUCT_BITS",
    "SUM_BITS",
    "add_sums",
    "decode_sums",
    "encode_sums",
    "plane_words",
    "with_products",
]

SUM_BITS, PRODUCT_BITS = 32, 48  # as wide as the engine adds them up
_LANES = 4  # of a turn
_TURNS = PIXEL_LANES // _LANES


def with_products(mode: int) -> bool:
    """Whether sums of products are reported beside those of values."""
    return mode != Mode.AFFINE


def plane_words(mode: int) -> int:
    """Words of one plane's sums."""
    return PIXEL_LANES // 2 + (PIXEL_LANES if with_products(mode) else 0)


def add_sums(one: Ints, other: Ints) -> Ints:
    """Add as the engine does. Shapes: (planes, 2, 16)."""
    added = one + other
    for part, bits in enumerate((SUM_BITS, PRODUCT_BITS)):
        added[:, part] = wrap(added[:, part], bits)
    return added


def encode_sums(sums: Ints, mode: int) -> Words:
    """The words of sums, and of sums of products. Shapes: sums (planes, 2, 16)."""
    turns = sums.astype(np.int64).reshape(-1, 2, _TURNS, _LANES).transpose(0, 2, 1, 3)
    pairs = turns[:, :, 0].astype(np.int32).view(np.int64)
    words = np.concatenate([pairs, turns[:, :, 1]], axis=2) if with_products(mode) else pairs
    return words.reshape(-1).view(np.uint64)


def decode_sums(words: Words, mode: int) -> Ints:
    """The sums, and those of products where there are.

    Shapes: words (..., n), found (..., planes, 1 or 2, 16).
    """
    per_turn = plane_words(mode) // _TURNS
    turns = np.ascontiguousarray(words).view(np.int64).reshape(*words.shape[:-1], -1, _TURNS, per_turn)
    parts = [np.ascontiguousarray(turns[..., : _LANES // 2]).view(np.int32).astype(np.int64)]
    if with_products(mode):
        parts.append(turns[..., _LANES // 2 :])
    lanes = [part.reshape(*part.shape[:-2], PIXEL_LANES) for part in parts]
    found: Ints = np.stack(lanes, axis=-2)
    return found
