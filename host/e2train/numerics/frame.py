# SPDX-License-Identifier: Apache-2.0
"""The header of a stream frame: which bit of which 64-bit word means what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHECK_WORDS",
    "G_BITS",
    "HEADER_WORDS",
    "LEVELS",
    "MAGIC",
    "MODE_IDS",
    "NONCE_BITS",
    "REPLY_MAGIC",
    "TRAILER_WORDS",
    "VERSION",
    "X_BITS",
    "FrameError",
    "Header",
    "Level",
    "Status",
    "Words",
    "check_sums",
    "decode_header",
    "encode_header",
]

Words = NDArray[np.uint64]  # stream words, little-endian

MAGIC = 0xE27A
REPLY_MAGIC = 0xE27B
VERSION = 2
HEADER_WORDS = 12
CHECK_WORDS = 2
TRAILER_WORDS = 5
NONCE_BITS = 32
LEVELS = 7
X_BITS, G_BITS = 4, 10  # the most high bits that grad_msb keeps of x and of gy
MODE_IDS = {"identify": 0, "forward": 1, "grad_input": 2, "grad_weight": 3, "grad_msb": 4}

_MORE, _X16, _XSIGNED, _WIDE = 1, 2, 4, 8
_WORD = (1 << 64) - 1


class FrameError(ValueError):
    """A number that does not fit its field of a frame."""


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

    @property
    def words(self) -> str:
        """The verdict for a person."""
        return _STATUS_WORDS.get(self, "ok")


_STATUS_WORDS = {
    Status.MAGIC: "the first word is not a frame's",
    Status.VERSION: "the engine speaks another version of the frame format",
    Status.MODE: "unknown mode",
    Status.LANES: "the engine was built with other lanes",
    Status.LENGTH: "a length exceeds the engine's buffers",
    Status.HEADER_CHECK: "the header's check word does not match",
    Status.FRAME_CHECK: "the frame's check words do not match",
    Status.EARLY_END: "the transfer ended within the frame",
    Status.LATE_END: "the transfer went on after its last frame",
    Status.BITS: "the high bits to keep must be 1 to 4 of 8-bit x and 1 to 10 of gy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One loop: how often, and what its advance adds once the inner loops are back at 0.

    Units: dy, dx in rows and columns; dxa, dwa in buffer addresses.
    """

    limit: int = 1
    dy: int = 0
    dx: int = 0
    dxa: int = 0
    dwa: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= 4096:
            raise FrameError(f"a loop's limit must be in 1..4096, not {self.limit}")
        for name, bits in (("dy", 10), ("dx", 10), ("dxa", 16), ("dwa", 16)):
            value = getattr(self, name)
            if not -(1 << bits - 1) <= value < 1 << bits - 1:
                raise FrameError(f"{name} must fit {bits} bits signed, {value} does not")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything that the first twelve words of a frame say.

    The engine returns ``nonce`` in the trailer of its reply: it tells the reply to this frame from any other.
    """

    mode: int
    ic_lanes: int
    oc_lanes: int
    more: bool = False
    x16: bool = False
    xsigned: bool = False
    wide: bool = False
    shift: int = 0
    x_count: int = 0
    w_count: int = 0
    H: int = 0
    W: int = 0
    y0: int = 0
    x0: int = 0
    nonce: int = 0
    depth: int = 1
    x_bits: int = 0  # grad_msb alone: high bits kept of x and of gy
    g_bits: int = 0
    levels: tuple[Level, ...] = (Level(),) * LEVELS
    magic: int = MAGIC
    version: int = VERSION

    @property
    def outer(self) -> bool:
        """Whether w holds output gradients, and every pair of lanes has a sum of its own."""
        return self.mode in (MODE_IDS["grad_weight"], MODE_IDS["grad_msb"])

    @property
    def iterations(self) -> int:
        """Sets of loop counters that the frame runs through."""
        return 0 if self.mode == 0 else _product(self.levels)

    @property
    def results(self) -> int:
        """Reductions that the frame emits."""
        return 0 if self.mode == 0 else _product(self.levels[self.depth :])

    @property
    def result_words(self) -> int:
        """Words of results in the reply, without its trailer."""
        if self.mode == MODE_IDS["identify"]:
            return 2
        if self.outer:
            return self.results * self.ic_lanes * self.oc_lanes  # of grad_msb two results a word
        return self.results * (self.oc_lanes if self.wide else self.oc_lanes // 2)

    @property
    def x_words(self) -> int:
        """Words of x payload."""
        return self.x_count * self.ic_lanes * (2 if self.x16 else 1) // 8

    @property
    def w_words(self) -> int:
        """Words of w payload."""
        return self.w_count * self.ic_lanes // 8

    @property
    def frame_words(self) -> int:
        """Words of the whole frame."""
        return HEADER_WORDS + self.x_words + self.w_words + CHECK_WORDS


def encode_header(header: Header) -> Words:
    """The header's twelve words, its check word last."""
    h = header
    flags = _MORE * h.more | _X16 * h.x16 | _XSIGNED * h.xsigned | _WIDE * h.wide
    words = [
        _join(
            (h.magic, 16),
            (h.version, 8),
            (h.mode, 8),
            (h.ic_lanes, 8),
            (h.oc_lanes, 8),
            (flags, 8),
            (h.shift, 8),
        ),
        _join((h.x_count, 32), (h.w_count, 32)),
        _join((h.H, 16), (h.W, 16), (h.y0, -16), (h.x0, -16)),
        _join((h.nonce, NONCE_BITS), (h.depth, 4), (h.x_bits, 4), (h.g_bits, 4)),
        *(_join((v.limit - 1, 12), (v.dy, -10), (v.dx, -10), (v.dxa, -16), (v.dwa, -16)) for v in h.levels),
    ]
    return np.array([*words, sum(words) & _WORD], np.uint64)


def decode_header(words: Words) -> Header:
    """The fields of the first eleven words, unchecked."""
    w = [int(word) for word in words[: HEADER_WORDS - 1]]
    flags = _bits(w[0], 48, 8)
    return Header(
        magic=_bits(w[0], 0, 16),
        version=_bits(w[0], 16, 8),
        mode=_bits(w[0], 24, 8),
        ic_lanes=_bits(w[0], 32, 8),
        oc_lanes=_bits(w[0], 40, 8),
        more=bool(flags & _MORE),
        x16=bool(flags & _X16),
        xsigned=bool(flags & _XSIGNED),
        wide=bool(flags & _WIDE),
        shift=_bits(w[0], 56, 8),
        x_count=_bits(w[1], 0, 32),
        w_count=_bits(w[1], 32, 32),
        H=_bits(w[2], 0, 16),
        W=_bits(w[2], 16, 16),
        y0=_signed(w[2], 32, 16),
        x0=_signed(w[2], 48, 16),
        nonce=_bits(w[3], 0, NONCE_BITS),
        depth=_bits(w[3], 32, 4),
        x_bits=_bits(w[3], 36, 4),
        g_bits=_bits(w[3], 40, 4),
        levels=tuple(_level(word) for word in w[4:]),
    )


def check_sums(words: Words) -> tuple[int, int]:
    """Fletcher's pair: the sum of the words, and the sum of its running values, mod 2**64.

    >>> check_sums(np.array([1, 2, 3], np.uint64))
    (6, 10)
    """
    falling = np.arange(words.size, 0, -1, dtype=np.uint64)
    return int(words.sum(dtype=np.uint64)), int((words * falling).sum(dtype=np.uint64))


def _level(word: int) -> Level:
    return Level(
        limit=_bits(word, 0, 12) + 1,
        dy=_signed(word, 12, 10),
        dx=_signed(word, 22, 10),
        dxa=_signed(word, 32, 16),
        dwa=_signed(word, 48, 16),
    )


def _join(*fields: tuple[int, int]) -> int:
    """Pack (value, bits) pairs from bit 0 up; negative bits mark a signed field."""
    word, at = 0, 0
    for value, bits in fields:
        width = abs(bits)
        low = -(1 << width - 1) if bits < 0 else 0
        if not low <= value < low + (1 << width):
            raise FrameError(f"{value} does not fit the {width} bits at bit {at} of its header word")
        word |= (value & (1 << width) - 1) << at
        at += width
    return word


def _bits(word: int, at: int, bits: int) -> int:
    return word >> at & (1 << bits) - 1


def _signed(word: int, at: int, bits: int) -> int:
    value = _bits(word, at, bits)
    return value - (value >> bits - 1 << bits)


def _product(levels: tuple[Level, ...]) -> int:
    product = 1
    for level in levels:
        product *= level.limit
    return product
