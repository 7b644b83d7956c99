# SPDX-License-Identifier: Apache-2.0
"""What the engine replies to the frames of a chain, checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.transfer import ChainPieces, reply_words, report_words
from e2train.devices.protocol import DeviceError
from e2train.numerics.frames import Status, check_sums, decode_trailer
from e2train.numerics.frames.layout import (
    PIXEL_LANES,
    REPLY_MAGIC,
    TRAILER_FIELDS,
    TRAILER_WORDS,
    VERSION,
    Words,
)
from e2train.numerics.rounding import Ints

__all__ = ["FrameReply", "failure", "is_whole", "read_replies"]

_WORD_BYTES = 8
_FIELDS = {field.name: field for field in TRAILER_FIELDS}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameReply:
    """What the engine said of a frame."""

    frame: PlannedFrame
    results: NDArray[np.uint64]  # that came to the host, if the frame had no places for them
    sides: Ints  # (planes, 2, 16)
    largest: int
    saturations: int
    written: int  # sum of the results' words modulo 2**64, wherever they went


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Alike:
    """Replies of one size. Shapes: results (frames, words), reported (frames, words)."""

    numbers: Sequence[int]  # of the frames in their chain
    results: Words
    reported: Words

    def field(self, name: str) -> Words:
        """A field of all trailers."""
        bits = _FIELDS[name]
        words = self.reported[:, bits.word - TRAILER_WORDS]
        return words >> np.uint64(bits.low) & np.uint64((1 << bits.bits) - 1)

    def are_whole(self, nonce: int) -> bool:
        """Whether check words match and the nonce is this one."""
        s1, s2 = _sums(self.reported[:, :-2])
        if (s1 != self.reported[:, -2]).any() or (s2 != self.reported[:, -1]).any():
            return False
        written = self.field("written_s1"), self.field("written_s2")
        if self.results.shape[1] and any(
            (found != wanted).any() for found, wanted in zip(_sums(self.results), written, strict=True)
        ):
            return False
        return bool((self.field("nonce") == nonce).all())

    def say(self, frames: Sequence[PlannedFrame]) -> bool:
        """Whether these ended well and were executed as they were planned."""
        headers = [frame.header for frame in frames]
        wanted = {
            "magic": REPLY_MAGIC,
            "version": VERSION,
            "status": Status.OK,
            "iterations": [header.iterations for header in headers],
            "words_in": [header.frame_words for header in headers],
            "words_out": [header.result_words + header.side_words for header in headers],
        }
        return all((self.field(name) == np.array(value, np.uint64)).all() for name, value in wanted.items())


def is_whole(chain: ChainPieces, memory: NDArray[np.uint8]) -> bool:
    """Whether all replies of a chain are there, of which a copy made while they came may lack any part."""
    return all(alike.are_whole(chain.nonce) for alike in _alike(chain, memory))


def read_replies(chain: ChainPieces, memory: NDArray[np.uint8]) -> list[FrameReply]:
    """What the engine said of each frame.

    Raises: DeviceError when it reports an error, or a reply is damaged or another frame's.
    """
    found: dict[int, FrameReply] = {}
    for alike in _alike(chain, memory):
        frames = [chain.frames[number] for number in alike.numbers]
        if not (alike.are_whole(chain.nonce) and alike.say(frames)):
            return _one_by_one(chain, memory)
        columns = (alike.field(name).tolist() for name in ("largest", "saturations", "written_s1"))
        rows = zip(alike.numbers, frames, alike.results, alike.reported.view(np.int64), *columns, strict=True)
        for number, frame, results, reported, largest, saturations, written in rows:
            found[number] = FrameReply(
                frame=frame,
                results=results,
                sides=reported[:-TRAILER_WORDS].reshape(-1, 2, PIXEL_LANES),
                largest=largest,
                saturations=saturations,
                written=written,
            )
    return [found[number] for number in range(len(chain.frames))]


def failure(words: Words) -> str | None:
    """The error that these words report, if they end with the trailer of a reply to a bad frame."""
    last = words[-TRAILER_WORDS:]
    if last.size < TRAILER_WORDS or check_sums(last[:-2]) != (int(last[-2]), int(last[-1])):
        return None
    trailer = decode_trailer(last)
    if trailer.magic != REPLY_MAGIC or trailer.status not in list(Status) or trailer.status == Status.OK:
        return None
    return f"the engine reports: {Status(trailer.status).words} (status {trailer.status})"


def _alike(chain: ChainPieces, memory: NDArray[np.uint8]) -> Iterator[_Alike]:
    """The replies of a chain, copied, by their sizes."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for number, frame in enumerate(chain.frames):
        sizes.setdefault((reply_words(frame), report_words(frame)), []).append(number)
    words = memory[: memory.size // _WORD_BYTES * _WORD_BYTES].view(np.uint64)
    for (size, reported), numbers in sizes.items():
        starts = np.array([chain.replies[number] for number in numbers]) // _WORD_BYTES
        rows = words[starts[:, None] + np.arange(size)]
        split = size - reported
        yield _Alike(numbers=numbers, results=rows[:, :split], reported=np.ascontiguousarray(rows[:, split:]))


def _sums(rows: Words) -> tuple[Words, Words]:
    """Check sums of each row."""
    falling = np.arange(rows.shape[1], 0, -1, dtype=np.uint64)
    return rows.sum(axis=1, dtype=np.uint64), rows @ falling


def _one_by_one(chain: ChainPieces, memory: NDArray[np.uint8]) -> list[FrameReply]:
    """As ``read_replies``, which tells what is wrong with the first reply that is."""
    found = []
    for index, (frame, at) in enumerate(zip(chain.frames, chain.replies, strict=True)):
        words = memory[at : at + reply_words(frame) * _WORD_BYTES].view(np.uint64)
        try:
            found.append(_parse(frame, words, chain.nonce))
        except DeviceError as error:
            raise DeviceError(f"frame {index + 1} of {len(chain.frames)}: {error}") from None
    return found


def _parse(frame: PlannedFrame, words: Words, nonce: int) -> FrameReply:
    header = frame.header
    to_host = words.size - report_words(frame)
    results, reported = words[:to_host], words[to_host:]
    if check_sums(reported[:-2]) != (int(reported[-2]), int(reported[-1])):
        raise DeviceError("the reply's check words do not match")
    trailer = decode_trailer(reported[-TRAILER_WORDS:])
    first, wanted = (trailer.magic, trailer.version, trailer.status), (REPLY_MAGIC, VERSION, Status.OK.value)
    if first != wanted:
        raise DeviceError(f"the trailer's magic, version and status are {first}, must be {wanted}")
    if trailer.nonce != nonce:
        raise DeviceError(
            f"this is the reply to another request: its nonce is {trailer.nonce:#010x}, "
            f"must be {nonce:#010x}; does another program use the device?"
        )
    counts = (trailer.iterations, trailer.words_in, trailer.words_out)
    planned = (header.iterations, header.frame_words, header.result_words + header.side_words)
    if counts != planned:
        raise DeviceError(
            f"the engine counted {counts[0]} iterations, {counts[1]} words in and {counts[2]} out, "
            f"must be {planned[0]}, {planned[1]} and {planned[2]}"
        )
    if to_host and check_sums(results) != (trailer.written_s1, trailer.written_s2):
        raise DeviceError("the results' check words do not match")
    return FrameReply(
        frame=frame,
        results=results.copy(),
        sides=reported[: header.side_words].view(np.int64).reshape(-1, 2, PIXEL_LANES).copy(),
        largest=trailer.largest,
        saturations=trailer.saturations,
        written=trailer.written_s1,
    )
