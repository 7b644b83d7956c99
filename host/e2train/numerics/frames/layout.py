# SPDX-License-Identifier: Apache-2.0
"""Which bit of which 64-bit word means what: the one table behind the Python codec and the C++ header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.rounding import DITHER_STEPS

__all__ = [
    "CHECK_WORDS",
    "COEFFICIENT_FIELDS",
    "COEFFICIENT_ROWS",
    "CONSTANTS",
    "FIRST_LEVEL",
    "G_BITS",
    "HEADER_FIELDS",
    "HEADER_WORDS",
    "KIND_DTYPES",
    "LEVELS",
    "LEVEL_FIELDS",
    "MAGIC",
    "MOST_PLANES",
    "PIXEL_LANES",
    "REPLY_MAGIC",
    "TRAILER_FIELDS",
    "TRAILER_WORDS",
    "VERSION",
    "X_BITS",
    "Field",
    "FrameError",
    "Kind",
    "Mode",
    "Status",
    "Words",
    "pack",
    "unpack",
]

Words = NDArray[np.uint64]  # stream words, little-endian

MAGIC = 0xE27A
REPLY_MAGIC = 0xE27B
VERSION = 5
LEVELS = 7  # loops of the nest
FIRST_LEVEL = 6  # the header's word of the innermost loop
HEADER_WORDS = FIRST_LEVEL + LEVELS + 1  # the last one checks the others
CHECK_WORDS = 2
TRAILER_WORDS = 9
X_BITS, G_BITS = 4, 10  # the most high bits that grad_msb keeps of x and of int16 gy
PIXEL_LANES = 16  # channels of a pixel, side by side
COEFFICIENT_ROWS = 16  # blocks of 16 channels, the most that a frame has coefficients for
MOST_PLANES = 64  # the most that a frame reports sums of


class FrameError(ValueError):
    """A number that does not fit its field of a frame."""


class Mode(IntEnum):
    """What a frame asks for."""

    IDENTIFY = 0
    FORWARD = 1
    GRAD_INPUT = 2
    GRAD_WEIGHT = 3
    GRAD_MSB = 4  # grad_weight of the high bits of both operands
    AFFINE = 5
    REDUCE = 6


class Kind(IntEnum):
    """Type of the values of an operand or of a result."""

    UINT8 = 0
    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4

    @property
    def bits(self) -> int:
        """Width of a value."""
        return 8 * KIND_DTYPES[self].itemsize


KIND_DTYPES = tuple(np.dtype(name) for name in ("u1", "<i1", "<i2", "<i4", "<i8"))


class Status(IntEnum):
    """The engine's verdict on a frame."""

    OK = 0
    MAGIC = 1
    VERSION = 2
    MODE = 3
    LANES = 4
    LENGTH = 5
    HEADER_CHECK = 6
    FRAME_CHECK = 7
    EARLY_END = 8
    LATE_END = 9
    BITS = 10
    KIND = 11
    HELD = 12

    @property
    def words(self) -> str:
        """The verdict for a person."""
        return _STATUS_WORDS.get(self, "ok")


_STATUS_WORDS = {
    Status.MAGIC: "the first word is not a frame's",
    Status.VERSION: "the engine speaks another version of the frame format",
    Status.MODE: "a mode that the engine does not have",
    Status.LANES: "the engine was built with other lanes",
    Status.LENGTH: "a length exceeds the engine's buffers",
    Status.HEADER_CHECK: "the header's check word does not match",
    Status.FRAME_CHECK: "the frame's check words do not match",
    Status.EARLY_END: "the transfer ended within the frame",
    Status.LATE_END: "the transfer went on after its last frame",
    Status.BITS: "the high bits to keep must be 1 to 4 of x and 1 to 10 of gy, of int8 gy 1 to 8 each",
    Status.KIND: "the operands or results are of a kind that the mode does not take",
    Status.HELD: "a frame that reports for others must follow them, with as many planes",
}


@dataclass(frozen=True, slots=True)
class Field:
    """Bits of a word that hold one number."""

    name: str
    word: int
    low: int
    bits: int
    signed: bool = False


HEADER_FIELDS = (
    Field("magic", 0, 0, 16),
    Field("version", 0, 16, 8),
    Field("mode", 0, 24, 8),
    Field("ic_lanes", 0, 32, 8),
    Field("oc_lanes", 0, 40, 8),
    Field("shift", 0, 48, 8),
    Field("phase", 0, 56, 8),  # where dithering begins
    Field("more", 1, 0, 1),  # another frame follows in this transfer
    Field("unchecked", 1, 1, 1),  # no check words behind the payload
    Field("relu", 1, 2, 1),
    Field("mask_x", 1, 3, 1),  # x counts as 0 where the mask is closed
    Field("mask_out", 1, 4, 1),  # the result is 0 there
    Field("mask_signed", 1, 5, 1),
    Field("x_spread", 1, 6, 1),  # x counts as 0 but at even rows and columns
    Field("w_spread", 1, 7, 1),
    Field("x_kind", 1, 8, 3),
    Field("w_kind", 1, 11, 3),
    Field("result", 1, 14, 3),
    Field("dithers", 1, 17, 1),  # affine alone: rounds so that errors cancel out
    Field("holds", 1, 18, 1),  # reports nothing: the next frame reports for both
    Field("depth", 1, 20, 4),  # innermost loops: of a sum, or of a plane
    Field("x_bits", 1, 24, 4),
    Field("g_bits", 1, 28, 4),
    Field("plane", 1, 32, 16),  # pixels of a plane
    Field("planes", 1, 48, 8),  # that sums are reported of
    Field("rows", 1, 56, 8),  # of coefficients
    Field("x_count", 2, 0, 32),
    Field("w_count", 2, 32, 32),
    Field("nonce", 3, 0, 32),
    Field("mask_count", 3, 32, 32),
    Field("H", 4, 0, 16),
    Field("W", 4, 16, 16),
    Field("y0", 4, 32, 16, signed=True),
    Field("x0", 4, 48, 16, signed=True),
    Field("ceiling", 5, 0, 32),  # 0: none
    Field("mask_limit", 5, 32, 16),
    Field("xa0", 5, 48, 16, signed=True),  # where xa starts
)
LEVEL_FIELDS = (
    Field("trips", 0, 0, 12),  # less one
    Field("dy", 0, 12, 10, signed=True),
    Field("dx", 0, 22, 10, signed=True),
    Field("dxa", 0, 32, 16, signed=True),
    Field("dwa", 0, 48, 16, signed=True),
)
COEFFICIENT_FIELDS = (
    Field("a", 0, 0, 16, signed=True),
    Field("b", 0, 16, 16, signed=True),
    Field("d", 0, 32, 32, signed=True),
)
TRAILER_FIELDS = (
    Field("magic", 0, 0, 16),
    Field("version", 0, 16, 8),
    Field("status", 0, 24, 8),
    Field("nonce", 0, 32, 32),
    Field("iterations", 1, 0, 32),
    Field("saturations", 1, 32, 32),
    Field("words_in", 2, 0, 32),
    Field("words_out", 2, 32, 32),  # results and sums, without the trailer
    Field("largest", 3, 0, 32),
    Field("read", 4, 0, 64),  # second check sum of the frame, without its check words
    Field("written_s1", 5, 0, 64),  # check sums of the results
    Field("written_s2", 6, 0, 64),
    Field("check_s1", 7, 0, 64),  # check sums of sums and trailer
    Field("check_s2", 8, 0, 64),
)

CONSTANTS = {
    "frame_magic": MAGIC,
    "reply_magic": REPLY_MAGIC,
    "version": VERSION,
    "header_words": HEADER_WORDS,
    "first_level": FIRST_LEVEL,
    "levels": LEVELS,
    "trailer_words": TRAILER_WORDS,
    "x_kept": X_BITS,
    "g_kept": G_BITS,
    "pixel_lanes": PIXEL_LANES,
    **dict(zip(("dither_channel", "dither_row", "dither_column"), DITHER_STEPS, strict=True)),
    "coefficient_rows": COEFFICIENT_ROWS,
    "most_planes": MOST_PLANES,
}


def pack(fields: Sequence[Field], values: Mapping[str, int]) -> list[int]:
    """Words from values by name.

    Raises: FrameError when one does not fit.

    >>> pack((Field("a", 0, 0, 8), Field("b", 0, 8, 8, signed=True)), {"a": 1, "b": -1})
    [65281]
    """
    words = [0] * (1 + max(field.word for field in fields))
    for field in fields:
        value = values[field.name]
        low = -(1 << field.bits - 1) if field.signed else 0
        if not low <= value < low + (1 << field.bits):
            sign = "signed" if field.signed else "unsigned"
            raise FrameError(f"{field.name} must fit {field.bits} bits {sign}, {value} does not")
        words[field.word] |= (value & (1 << field.bits) - 1) << field.low
    return words


def unpack(fields: Sequence[Field], words: Sequence[int]) -> dict[str, int]:
    """Values by name.

    >>> unpack((Field("a", 0, 0, 8), Field("b", 0, 8, 8, signed=True)), [65281])
    {'a': 1, 'b': -1}
    """
    values = {}
    for field in fields:
        value = words[field.word] >> field.low & (1 << field.bits) - 1
        values[field.name] = value - (value >> field.bits - 1 << field.bits) if field.signed else value
    return values
