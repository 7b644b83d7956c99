# SPDX-License-Identifier: Apache-2.0
"""The header of a frame: what it asks for, and the sizes that follow from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod

import numpy as np

from e2train.numerics.frames.layout import (
    CHECK_WORDS,
    FIRST_LEVEL,
    HEADER_FIELDS,
    HEADER_WORDS,
    KIND_DTYPES,
    LEVEL_FIELDS,
    LEVELS,
    MAGIC,
    PIXEL_LANES,
    TRAILER_WORDS,
    VERSION,
    FrameError,
    Kind,
    Mode,
    Words,
    pack,
    unpack,
)
from e2train.numerics.frames.sums import plane_words

__all__ = ["FrameError", "Header", "Level", "check_sums", "decode_header", "encode_header"]

_WORD = (1 << 64) - 1
_DOT = (Mode.FORWARD, Mode.GRAD_INPUT)
_OUTER = (Mode.GRAD_WEIGHT, Mode.GRAD_MSB)
_ELEMENTS = (Mode.AFFINE, Mode.REDUCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One loop: how often, and what its advance adds once the inner loops are back at 0.

    Units: dy, dx in rows and columns; dxa, dwa in buffer addresses, in element modes in half pixels.
    """

    limit: int = 1
    dy: int = 0
    dx: int = 0
    dxa: int = 0
    dwa: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= 4096:
            raise FrameError(f"a loop's limit must be in 1..4096, not {self.limit}")
        for field in LEVEL_FIELDS[1:]:
            value, half = getattr(self, field.name), 1 << field.bits - 1
            if not -half <= value < half:
                raise FrameError(f"{field.name} must fit {field.bits} bits signed, {value} does not")


@dataclass(frozen=True, kw_only=True)
class Header:
    """Everything that a frame's header says; ``layout.HEADER_FIELDS`` tells where.

    The engine returns ``nonce`` in the trailer of its reply: it tells the reply to this frame from any other.
    """

    mode: int
    ic_lanes: int
    oc_lanes: int
    more: int = 0
    holds: int = 0
    unchecked: int = 0
    relu: int = 0
    mask_x: int = 0
    mask_out: int = 0
    mask_signed: int = 0
    x_spread: int = 0
    w_spread: int = 0
    x_kind: int = Kind.UINT8
    w_kind: int = Kind.INT8
    result: int = Kind.INT32
    depth: int = 1
    x_bits: int = 0  # grad_msb alone: high bits kept of x and of gy
    g_bits: int = 0
    plane: int = 0
    planes: int = 0
    rows: int = 0
    shift: int = 0
    dithers: int = 0
    phase: int = 0
    x_count: int = 0
    w_count: int = 0
    mask_count: int = 0
    H: int = 0
    W: int = 0
    y0: int = 0
    x0: int = 0
    xa0: int = 0
    nonce: int = 0
    ceiling: int = 0
    mask_limit: int = 0
    levels: tuple[Level, ...] = (Level(),) * LEVELS
    magic: int = MAGIC
    version: int = VERSION

    @property
    def dot(self) -> bool:
        """Whether sums run over lanes too."""
        return self.mode in _DOT

    @property
    def outer(self) -> bool:
        """Whether w holds output gradients, and every pair of lanes has a sum of its own."""
        return self.mode in _OUTER

    @property
    def elements(self) -> bool:
        """Whether the operation goes element by element."""
        return self.mode in _ELEMENTS

    @cached_property
    def pairs(self) -> bool:
        """Whether a multiplier makes two products at once."""
        if self.outer:
            return self.mode == Mode.GRAD_MSB or self.w_kind != Kind.INT16
        return self.dot and self.x_kind != Kind.INT16

    @cached_property
    def k_lanes(self) -> int:
        """Output channels of one sum of all lanes: a row of weights, or a vector or two of gy."""
        return self.oc_lanes * (2 if self.pairs else 1)

    @cached_property
    def iterations(self) -> int:
        """Sets of loop counters that the frame runs through."""
        return 0 if self.mode == Mode.IDENTIFY else prod(level.limit for level in self.levels)

    @cached_property
    def results(self) -> int:
        """Sums of all lanes that the frame emits; in element modes planes."""
        if self.mode == Mode.IDENTIFY:
            return 0
        return prod(level.limit for level in self.levels[self.depth :])

    @cached_property
    def result_words(self) -> int:
        """Words of results in the reply."""
        if self.mode in (Mode.IDENTIFY, Mode.REDUCE):
            return 2 if self.mode == Mode.IDENTIFY else 0
        if self.outer:
            return self.results * self.ic_lanes * self.oc_lanes  # with pairs two results a word
        values = self.iterations * 4 if self.elements else self.results * self.k_lanes
        return values * KIND_DTYPES[self.result].itemsize // 8

    @cached_property
    def side_words(self) -> int:
        """Words of sums by plane and channel in the reply."""
        return self.planes * plane_words(self.mode)

    @cached_property
    def reply_words(self) -> int:
        """Words of the reply."""
        return self.result_words + (0 if self.holds else self.side_words + TRAILER_WORDS)

    @property
    def coefficient_words(self) -> int:
        """Words of coefficients."""
        return self.rows * PIXEL_LANES

    @property
    def x_words(self) -> int:
        """Words of x payload."""
        return self.x_count * self.ic_lanes * (2 if self.x_kind == Kind.INT16 else 1) // 8

    @property
    def w_words(self) -> int:
        """Words of w payload."""
        return self.w_count * self.ic_lanes // 8

    @property
    def mask_words(self) -> int:
        """Words of the mask."""
        return self.mask_count * PIXEL_LANES // 8

    @cached_property
    def payload_words(self) -> int:
        """Words between header and check words."""
        return self.coefficient_words + self.x_words + self.w_words + self.mask_words

    @cached_property
    def frame_words(self) -> int:
        """Words of the whole frame."""
        return HEADER_WORDS + self.payload_words + (0 if self.unchecked else CHECK_WORDS)


def encode_header(header: Header) -> Words:
    """The header's words, its check word last."""
    words = pack(HEADER_FIELDS, {field.name: int(getattr(header, field.name)) for field in HEADER_FIELDS})
    for level in header.levels:
        words += pack(LEVEL_FIELDS, asdict(level) | {"trips": level.limit - 1})
    return np.array([*words, sum(words) & _WORD], np.uint64)


def decode_header(words: Words) -> Header:
    """The fields of a header, unchecked."""
    numbers = [int(word) for word in words[: HEADER_WORDS - 1]]
    levels = []
    for word in numbers[FIRST_LEVEL:]:
        values = unpack(LEVEL_FIELDS, [word])
        levels.append(Level(limit=values.pop("trips") + 1, **values))
    return Header(**unpack(HEADER_FIELDS, numbers), levels=tuple(levels))


def check_sums(words: Words) -> tuple[int, int]:
    """Fletcher's pair: the sum of the words, and the sum of its running values, mod 2**64.

    >>> check_sums(np.array([1, 2, 3], np.uint64))
    (6, 10)
    """
    falling = np.arange(words.size, 0, -1, dtype=np.uint64)
    return int(words.sum(dtype=np.uint64)), int((words * falling).sum(dtype=np.uint64))
