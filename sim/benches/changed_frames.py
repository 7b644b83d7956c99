# SPDX-License-Identifier: Apache-2.0
"""Frames for the engine changed after they were made, most of them for the worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from e2train.numerics.frames import Header, check_sums, encode_header
from e2train.numerics.frames.layout import HEADER_WORDS
from e2train.packing.frames import Frame, join_transfer
from numpy.typing import NDArray

__all__ = ["changed", "rebuilt", "rebuilt_more", "together", "without_checks"]

Words = NDArray[np.uint64]

_WORD = (1 << 64) - 1


def together(frames: Sequence[Frame]) -> list[Frame]:
    """Of which the last one reports for all."""
    last = len(frames) - 1
    return [
        replace(frame, header=replace(frame.header, holds=int(index < last)))
        for index, frame in enumerate(frames)
    ]


def rebuilt(frame: Frame, header: Header) -> Words:
    """The frame's payload behind another header, with check words that fit."""
    body = np.concatenate([encode_header(header), join_transfer([frame])[HEADER_WORDS:-2]])
    return np.concatenate([body, np.array(check_sums(body), np.uint64)])


def rebuilt_more(frame: Frame) -> Words:
    """The frame under a header that announces another."""
    return rebuilt(frame, replace(frame.header, more=1))


def without_checks(frame: Frame, **fields: int) -> Words:
    """The frame, which has no check words, under a changed header."""
    return np.concatenate(
        [encode_header(replace(frame.header, **fields)), join_transfer([frame])[HEADER_WORDS:]]
    )


def changed(words: Words, at: int, by: int) -> Words:
    """The words with another number at one place."""
    found = words.copy()
    found[at] = (int(found[at]) + by) & _WORD
    return found
