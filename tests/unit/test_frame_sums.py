# SPDX-License-Identifier: Apache-2.0
"""Sums of planes as words of a reply: what is packed is found again, at the corners of their widths too."""

from __future__ import annotations

import numpy as np
import pytest
from e2train.numerics.frames import Mode
from e2train.numerics.frames.sums import (
    PRODUCT_BITS,
    SUM_BITS,
    add_sums,
    decode_sums,
    encode_sums,
    plane_words,
)

MODES = [Mode.FORWARD, Mode.GRAD_INPUT, Mode.AFFINE, Mode.REDUCE]


def corners(planes: int, rng: np.random.Generator) -> np.ndarray:
    """Sums and products, extreme ones among them. Shape: (planes, 2, 16)."""
    drawn = [
        rng.choice(
            [-(1 << bits - 1), -1, 0, 1, (1 << bits - 1) - 1, *rng.integers(-(1 << 30), 1 << 30, 5)],
            16 * planes,
        )
        for bits in (SUM_BITS, PRODUCT_BITS)
    ]
    return np.stack([each.reshape(planes, 16) for each in drawn], axis=1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("planes", [0, 1, 2, 64])
def test_sums_are_found_again(mode: Mode, planes: int, rng: np.random.Generator) -> None:
    sums = corners(planes, rng)
    words = encode_sums(sums, mode)
    assert words.size == planes * plane_words(mode)
    found = decode_sums(words, mode)
    np.testing.assert_array_equal(found, sums[:, :1] if mode is Mode.AFFINE else sums)
    two = np.stack([words, words[::-1]])
    np.testing.assert_array_equal(decode_sums(two, mode)[0], found)


def test_where_each_word_stands() -> None:
    """Of channels 4 to 7 the first two words hold two sums each, the low one first."""
    sums = np.arange(32).reshape(1, 2, 16)
    words = encode_sums(sums, Mode.FORWARD).reshape(4, 6)
    assert words[1].tolist() == [4 | 5 << 32, 6 | 7 << 32, 20, 21, 22, 23]
    assert encode_sums(sums, Mode.AFFINE).reshape(4, 2)[1].tolist() == [4 | 5 << 32, 6 | 7 << 32]
    assert encode_sums(-sums, Mode.AFFINE)[2] == (-5 & 0xFFFFFFFF) << 32 | (-4 & 0xFFFFFFFF)


def test_sums_that_leave_their_width_wrap() -> None:
    most = np.stack([np.full(16, (1 << bits - 1) - 1) for bits in (SUM_BITS, PRODUCT_BITS)])[None]
    added = add_sums(most, np.ones_like(most))
    assert added[0, 0].tolist() == [-(1 << 31)] * 16
    assert added[0, 1].tolist() == [-(1 << 47)] * 16
