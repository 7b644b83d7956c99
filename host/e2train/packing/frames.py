# SPDX-License-Identifier: Apache-2.0
"""Frames to transfers, and replies back, checked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.frames import Header, Status, check_sums, decode_trailer, encode_header
from e2train.numerics.frames.layout import (
    CHECK_WORDS,
    HEADER_WORDS,
    REPLY_MAGIC,
    TRAILER_WORDS,
    VERSION,
    Words,
)

__all__ = ["Frame", "Reply", "ReplyError", "join_transfer", "split_replies", "with_nonces"]

_NONCE_BITS = 32


def _nothing() -> NDArray[Any]:
    return np.zeros(0, np.uint64)


class ReplyError(RuntimeError):
    """A reply that reports an error, or is not the reply to what was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A header with its payload: contiguous arrays, in address order."""

    header: Header
    coefficients: NDArray[Any] = field(default_factory=_nothing)
    x: NDArray[Any] = field(default_factory=_nothing)
    w: NDArray[Any] = field(default_factory=_nothing)
    mask: NDArray[Any] = field(default_factory=_nothing)

    def __post_init__(self) -> None:
        h = self.header
        sizes = (h.coefficient_words, h.x_words, h.w_words, h.mask_words)
        for name, payload, words in zip(_PAYLOADS, self.payload, sizes, strict=True):
            if payload.nbytes != 8 * words:
                raise ValueError(f"{name} payload has {payload.nbytes} bytes, its header says {8 * words}")

    @property
    def payload(self) -> tuple[NDArray[Any], ...]:
        """What follows the header, in order."""
        return self.coefficients, self.x, self.w, self.mask


_PAYLOADS = ("coefficients", "x", "w", "mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the engine answered to one frame, found in order."""

    results: Words
    iterations: int
    saturations: int
    largest: int = 0
    sides: Words = field(default_factory=_nothing)


def with_nonces(headers: Sequence[Header]) -> list[Header]:
    """The headers of one attempt at a transfer: a random nonce, and those that follow it.

    Nothing but chance, 1 in 2**32, lets a reply to another attempt, process or host pass for the one to this.
    """
    first = secrets.randbits(_NONCE_BITS)
    return [
        replace(header, nonce=(first + index) % (1 << _NONCE_BITS)) for index, header in enumerate(headers)
    ]


def join_transfer(frames: Sequence[Frame]) -> Words:
    """One transfer of all frames: MORE set on all but the last, check words added."""
    out = np.empty(sum(frame.header.frame_words for frame in frames), np.uint64)
    at = 0
    for index, frame in enumerate(frames):
        size = frame.header.frame_words
        _fill(out[at : at + size], frame, more=index + 1 < len(frames))
        at += size
    return out


def split_replies(words: Words, headers: Sequence[Header]) -> list[Reply]:
    """The replies to the frames with these headers, in order.

    Raises: ReplyError when the engine reports an error, or a reply is damaged, missing or another frame's.
    """
    replies, at = [], 0
    for index, header in enumerate(headers):
        where = f"frame {index + 1} of {len(headers)}"
        size = header.reply_words
        if words.size < at + size:
            raise ReplyError(f"{where}: {_short_reply(words[at:])}")
        try:
            replies.append(_parse(words[at : at + size], header))
        except ReplyError as error:
            if (failure := _failure(words[at:])) is not None:
                raise ReplyError(f"{where}: {failure}") from None
            raise ReplyError(f"{where}: {error}") from None
        at += size
    if words.size > at:
        raise ReplyError(f"{words.size - at} words too many after the replies to {len(headers)} frames")
    return replies


def _fill(out: Words, frame: Frame, *, more: bool) -> None:
    header = replace(frame.header, more=int(more))
    out[:HEADER_WORDS] = encode_header(header)
    at = HEADER_WORDS
    for payload in frame.payload:
        words = payload.reshape(-1).view(np.uint64)
        out[at : at + words.size] = words
        at += words.size
    if not header.unchecked:
        out[at:] = check_sums(out[:at])


def _parse(words: Words, header: Header) -> Reply:
    results, sides, tail = np.split(words, np.cumsum([header.result_words, header.side_words]))
    trailer, first = decode_trailer(tail), int(tail[0])
    if not _checked(words[results.size :]) or (trailer.written_s1, trailer.written_s2) != check_sums(results):
        raise ReplyError("the reply's check words do not match")
    wanted = REPLY_MAGIC | VERSION << 16 | Status.OK << 24 | header.nonce << 32
    if (first ^ wanted) & 0xFFFFFFFF:
        raise ReplyError(f"the reply's first trailer word is {first:#x}, must be {wanted:#x}")
    if first != wanted:
        raise ReplyError(
            f"this is the reply to another request: its nonce is {trailer.nonce:#010x}, must be "
            f"{header.nonce:#010x}; does another program use the device?"
        )
    counts = trailer.iterations, trailer.words_in, trailer.words_out
    if counts != (header.iterations, header.frame_words, results.size + sides.size):
        raise ReplyError(
            f"the engine counted {counts[0]} iterations, {counts[1]} words in and {counts[2]} out, "
            f"must be {header.iterations}, {header.frame_words} and {results.size + sides.size}"
        )
    return Reply(
        results=results,
        sides=sides,
        iterations=counts[0],
        saturations=trailer.saturations,
        largest=trailer.largest,
    )


def _checked(words: Words) -> bool:
    """Whether sums and trailer end with their check words."""
    check_words = tuple(int(word) for word in words[-CHECK_WORDS:])
    return check_sums(words[:-CHECK_WORDS]) == check_words


def _failure(words: Words) -> str | None:
    """The error that these words report, if they begin with a reply without results."""
    if words.size < TRAILER_WORDS or not _checked(words[:TRAILER_WORDS]):
        return None
    trailer = decode_trailer(words[:TRAILER_WORDS])
    if trailer.magic != REPLY_MAGIC or trailer.status == Status.OK:
        return None
    if trailer.status not in list(Status):
        return f"the engine reports the unknown status {trailer.status}"
    return f"the engine reports: {Status(trailer.status).words} (status {trailer.status})"


def _short_reply(words: Words) -> str:
    return _failure(words) or f"the reply ends after {words.size} words"
