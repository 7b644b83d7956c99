# SPDX-License-Identifier: Apache-2.0
"""Planned frames as pieces for the DMA, and what the engine replied, checked."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.chains.plan import PlannedFrame, Run
from e2train.devices.protocol import DeviceError
from e2train.numerics.frames import Header, Status, check_sums, decode_trailer, encode_header
from e2train.numerics.frames.layout import (
    HEADER_WORDS,
    PIXEL_LANES,
    REPLY_MAGIC,
    TRAILER_WORDS,
    VERSION,
    Words,
)
from e2train.numerics.rounding import Ints
from e2train.packing.descriptors import DESCRIPTOR_BYTES, Pieces

__all__ = [
    "Area",
    "ChainPieces",
    "FrameReply",
    "failure",
    "is_whole",
    "lay_out",
    "read_replies",
    "reply_bytes",
    "scratch_bytes",
]

_WORD_BYTES = 8
_NONCE_WORD = 3
_HEADER = -1  # in the place of an array's number


Places = Callable[[Sequence[Run]], Sequence[Run]]


@dataclass(slots=True, kw_only=True, eq=False)
class Area:
    """Memory of this machine that the DMA knows by addresses from ``base`` on; from ``at`` on it is free."""

    memory: NDArray[np.uint8]
    base: int
    at: int
    _placed: dict[Any, Run] = field(default_factory=dict, init=False)

    def put_once(self, values: NDArray[np.uint8], *, key: tuple[int | None, int] | None = None) -> Run:
        """Write bytes, or say where they stand already, written with the same key."""
        named = key, values.tobytes()
        if named not in self._placed:
            self._placed[named] = self.put(values)
        return self._placed[named]

    def put(self, values: NDArray[np.uint8]) -> Run:
        """Write bytes, and say where."""
        run = self.take(values.size)
        start = run[0] - self.base
        self.memory[start : start + values.size] = values
        return run

    def take(self, nbytes: int) -> Run:
        """Leave bytes free for others to write."""
        self.at += nbytes
        return self.at - nbytes, nbytes


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
class ChainPieces:
    """The pieces of a chain of frames, and where each frame's reply to the host is to be found."""

    frames: Sequence[PlannedFrame]
    nonce: int  # of all of them
    mm2s: Pieces
    s2mm: Pieces
    replies: Sequence[int]  # where they begin in the memory of their area


def scratch_bytes(frame: PlannedFrame) -> int:
    """The most that a frame takes of the scratch memory: header, what the host sends, reply, descriptors."""
    own = sum(part.nbytes for part in frame.sources if isinstance(part, np.ndarray))
    runs = sum(len(part) for part in frame.sources if not isinstance(part, np.ndarray))
    pieces = runs + len(frame.results) + len(frame.sources) + 2
    return own + (HEADER_WORDS + _reply_words(frame)) * _WORD_BYTES + pieces * DESCRIPTOR_BYTES


def reply_bytes(frames: Sequence[PlannedFrame]) -> int:
    """What comes to the host of all frames."""
    return sum(map(_reply_words, frames)) * _WORD_BYTES


def lay_out(
    frames: Sequence[PlannedFrame],
    send: Area,
    receive: Area,
    places: Places = lambda runs: runs,
    *,
    owners: Sequence[int | None] = (),
    more: bool = False,
) -> ChainPieces:
    """Write what the host sends to one area, leave replies their room in another, and collect all pieces.

    ``places`` says where in the DMA's addresses runs of the device's memory lie; with ``more`` other frames
    follow in the chain. What several frames of an operation, their owner, are sent alike stands once in the
    area, arrays be it for one engine or several. Places do not depend on the scales of a step.
    """
    nonce = secrets.randbits(32)
    arrays: dict[int, Run] = {}  # by identity
    counts: Counter[int | None] = Counter()  # of arrays by owner
    mm2s: list[Run] = []
    s2mm: list[Run] = []
    replies = []
    for index, frame in enumerate(frames):
        header = _header_words(frame.header, more or index + 1 < len(frames), nonce)
        owner = owners[index] if owners else None
        mm2s.append(send.put_once(header.view(np.uint8), key=(owner, _HEADER)))
        for part in frame.sources:
            if isinstance(part, np.ndarray):
                if id(part) not in arrays:
                    key = owner, counts[owner]
                    counts[owner] += 1
                    arrays[id(part)] = send.put_once(part.reshape(-1).view(np.uint8), key=key)
                mm2s.append(arrays[id(part)])
            else:
                mm2s.extend(places(part))
        s2mm.extend(places(frame.results))
        reply = receive.take(_reply_words(frame) * _WORD_BYTES)
        replies.append(reply[0] - receive.base)
        s2mm.append(reply)
    return ChainPieces(frames=frames, nonce=nonce, mm2s=_joined(mm2s), s2mm=_joined(s2mm), replies=replies)


def is_whole(chain: ChainPieces, memory: NDArray[np.uint8]) -> bool:
    """Whether all replies of a chain are there, of which a copy made while they came may lack any part."""
    replies = zip(reversed(chain.frames), reversed(chain.replies), strict=True)  # the last comes last
    return all(
        _is_there(frame, memory[at : at + _reply_words(frame) * _WORD_BYTES].view(np.uint64), chain.nonce)
        for frame, at in replies
    )


def _is_there(frame: PlannedFrame, words: Words, nonce: int) -> bool:
    to_host = words.size - _report_words(frame)
    results, reported = words[:to_host], words[to_host:]
    if check_sums(reported[:-2]) != (int(reported[-2]), int(reported[-1])):
        return False
    trailer = decode_trailer(reported[-TRAILER_WORDS:])
    written = trailer.written_s1, trailer.written_s2
    return trailer.nonce == nonce and (not to_host or check_sums(results) == written)


def read_replies(chain: ChainPieces, memory: NDArray[np.uint8]) -> list[FrameReply]:
    """What the engine said of each frame.

    Raises: DeviceError when it reports an error, or a reply is damaged or another frame's.
    """
    found = []
    for index, (frame, at) in enumerate(zip(chain.frames, chain.replies, strict=True)):
        words = memory[at : at + _reply_words(frame) * _WORD_BYTES].view(np.uint64)
        try:
            found.append(_parse(frame, words, chain.nonce))
        except DeviceError as error:
            raise DeviceError(f"frame {index + 1} of {len(chain.frames)}: {error}") from None
    return found


def _parse(frame: PlannedFrame, words: Words, nonce: int) -> FrameReply:
    header = frame.header
    to_host = words.size - _report_words(frame)
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


def failure(words: Words) -> str | None:
    """The error that these words report, if they end with the trailer of a reply to a bad frame."""
    last = words[-TRAILER_WORDS:]
    if last.size < TRAILER_WORDS or check_sums(last[:-2]) != (int(last[-2]), int(last[-1])):
        return None
    trailer = decode_trailer(last)
    if trailer.magic != REPLY_MAGIC or trailer.status not in list(Status) or trailer.status == Status.OK:
        return None
    return f"the engine reports: {Status(trailer.status).words} (status {trailer.status})"


def _header_words(header: Header, more: bool, nonce: int) -> Words:
    """The words of a header with its nonce: the check word is a sum."""
    words = _encoded(header, more).copy()
    words[_NONCE_WORD] += np.uint64(nonce)
    words[-1] += np.uint64(nonce)
    return words


@lru_cache(maxsize=4096)
def _encoded(header: Header, more: bool) -> Words:
    return encode_header(replace(header, more=int(more), nonce=0))


def _reply_words(frame: PlannedFrame) -> int:
    """Words of a reply that come to the host."""
    return _report_words(frame) + (0 if frame.results else frame.header.result_words)


def _report_words(frame: PlannedFrame) -> int:
    """Words behind the results: sums and trailer."""
    return frame.header.reply_words - frame.header.result_words


def _joined(runs: Sequence[Run]) -> Pieces:
    """One packet, with neighbours in the memory as one piece."""
    addresses, sizes = (np.array(column, np.int64) for column in zip(*runs, strict=True))
    ends = addresses + sizes
    breaks = np.concatenate([[True], addresses[1:] != ends[:-1]])
    starts = np.flatnonzero(breaks)
    lasts = np.append(starts[1:], len(runs)) - 1
    return Pieces(
        addresses=addresses[starts],
        nbytes=ends[lasts] - addresses[starts],
        ends=np.arange(starts.size) == starts.size - 1,
    )
