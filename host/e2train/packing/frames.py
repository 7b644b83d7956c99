# SPDX-License-Identifier: Apache-2.0
"""Frames to transfers, and replies back, checked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.frame import (
    HEADER_WORDS,
    NONCE_BITS,
    REPLY_MAGIC,
    TRAILER_WORDS,
    VERSION,
    Header,
    Status,
    Words,
    check_sums,
    encode_header,
)

__all__ = ["Frame", "Reply", "ReplyError", "join_transfer", "split_replies", "with_nonces"]


class ReplyError(RuntimeError):
    """A reply that reports an error, or is not the reply to what was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A header with its payload: contiguous arrays of lanes, in address order."""

    header: Header
    x: NDArray[Any]
    w: NDArray[Any]

    def __post_init__(self) -> None:
        for name, payload, words in (("x", self.x, self.header.x_words), ("w", self.w, self.header.w_words)):
            if payload.nbytes != 8 * words:
                raise ValueError(f"{name} payload has {payload.nbytes} bytes, its header says {8 * words}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the engine answered to one frame, found in order."""

    results: Words
    iterations: int
    saturations: int


def with_nonces(headers: Sequence[Header]) -> list[Header]:
    """The headers of one attempt at a transfer: a random nonce, and those that follow it.

    Nothing but chance, 1 in 2**32, lets a reply to another attempt, process or host pass for the one to this.
    """
    first = secrets.randbits(NONCE_BITS)
    return [
        replace(header, nonce=(first + index) % (1 << NONCE_BITS)) for index, header in enumerate(headers)
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
        size = header.result_words + TRAILER_WORDS
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
    header = replace(frame.header, more=more)
    w_at = HEADER_WORDS + header.x_words
    out[:HEADER_WORDS] = encode_header(header)
    out[HEADER_WORDS:w_at] = frame.x.reshape(-1).view(np.uint64)
    out[w_at:-2] = frame.w.reshape(-1).view(np.uint64)
    out[-2:] = check_sums(out[:-2])


def _parse(words: Words, header: Header) -> Reply:
    results, trailer = words[:-TRAILER_WORDS], [int(word) for word in words[-TRAILER_WORDS:]]
    if check_sums(words[:-2]) != (trailer[3], trailer[4]):
        raise ReplyError("the reply's check words do not match")
    wanted = REPLY_MAGIC | VERSION << 16 | Status.OK << 24 | header.nonce << 32
    counts = (trailer[1] & 0xFFFFFFFF, trailer[2] & 0xFFFFFFFF, trailer[2] >> 32)
    if (trailer[0] ^ wanted) & 0xFFFFFFFF:
        raise ReplyError(f"the reply's first trailer word is {trailer[0]:#x}, must be {wanted:#x}")
    if trailer[0] != wanted:
        raise ReplyError(
            f"this is the reply to another request: its nonce is {trailer[0] >> 32:#010x}, must be "
            f"{header.nonce:#010x}; does another program use the device?"
        )
    if counts != (header.iterations, header.frame_words, results.size):
        raise ReplyError(
            f"the engine counted {counts[0]} iterations, {counts[1]} words in and {counts[2]} out, "
            f"must be {header.iterations}, {header.frame_words} and {results.size}"
        )
    return Reply(results=results, iterations=counts[0], saturations=trailer[1] >> 32)


def _failure(words: Words) -> str | None:
    """The error that these words report, if they begin with a reply without results."""
    if words.size < TRAILER_WORDS or check_sums(words[:3]) != (int(words[3]), int(words[4])):
        return None
    first = int(words[0])
    status = first >> 24 & 0xFF
    if first & 0xFFFF != REPLY_MAGIC or status == Status.OK:
        return None
    if status not in list(Status):
        return f"the engine reports the unknown status {status}"
    return f"the engine reports: {Status(status).words} (status {status})"


def _short_reply(words: Words) -> str:
    return _failure(words) or f"the reply ends after {words.size} words"
