# SPDX-License-Identifier: Apache-2.0
"""What the engine replies to the frames of chains, checked and read together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.transfer import ChainPieces, reply_words, report_words
from e2train.devices.protocol import DeviceError
from e2train.numerics.frames import Status, check_sums, decode_trailer
from e2train.numerics.frames.layout import (
    REPLY_MAGIC,
    TRAILER_FIELDS,
    TRAILER_WORDS,
    VERSION,
    Words,
    pack,
)
from e2train.numerics.frames.sums import decode_sums
from e2train.numerics.rounding import Ints

__all__ = ["ExpectedReplies", "FrameReplies", "failure", "read_replies"]

_WORD_BYTES = 8
_COUNT = (1 << 32) - 1  # the most that a count of the trailer holds
_FIELDS = {field.name: field for field in TRAILER_FIELDS}
_NONCE_LOW = np.uint64(_FIELDS["nonce"].low)

_Group = tuple[int | None, Any]  # owner, and the tag of frames that report something
_Kind = tuple[int, int, int]  # mode, words of the reply, and of these behind the results
_Listed = tuple[int, int, Sequence[PlannedFrame]]  # engine, place, and the frames that report together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameReplies:
    """What the engine said of frames that are alike: of one operation, of one size and with one tag.

    Of frames that report together it is the last one that stands for all of them.
    """

    owner: int | None  # number of the operation; None of no operation
    frames: Sequence[PlannedFrame]
    results: Words  # (frames, words) that came to the host, if the frames had no places for them
    sums: Ints  # (frames, planes, 2, 16): of values and of products; of affine (frames, planes, 1, 16)
    largest: int  # of all
    saturations: int  # of all
    written: Words  # (frames,): sum of the results' words modulo 2**64, wherever they went

    @property
    def frame(self) -> PlannedFrame:
        """The first one."""
        return self.frames[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Alike:
    """Where replies of one kind stand, and what they must say; those of a group are neighbours."""

    frames: Sequence[PlannedFrame]
    starts: NDArray[np.int64]  # words
    mode: int
    size: int  # words of each
    reported: int  # of these, behind the results
    engines: NDArray[np.int64]
    members: Words  # frames that each is for
    said: Words  # first word of each trailer, but for the nonce
    iterations: Words
    counted: Words  # its word of words in and out
    groups: Sequence[tuple[int | None, slice]]  # by owner

    def rows(self, memory: NDArray[np.uint8]) -> Words:
        """Copies of them."""
        words = memory[: memory.size // _WORD_BYTES * _WORD_BYTES].view(np.uint64)
        found: Words = sliding_window_view(words, self.size)[self.starts]
        return found

    def split(self, rows: Words) -> tuple[Words, Words]:
        """Results that came to the host, and sums with trailer."""
        return rows[:, : self.size - self.reported], rows[:, self.size - self.reported :]

    def are_whole(self, rows: Words, nonces: Words) -> NDArray[np.bool_]:
        """Of which ones check words match and the nonce is the wanted one."""
        results, reported = self.split(rows)
        s1, s2 = _sums(reported[:, :-2])
        whole: NDArray[np.bool_] = (s1 == reported[:, -2]) & (s2 == reported[:, -1])
        whole &= _field(reported, "nonce") == nonces
        if results.shape[1]:
            for name, found in zip(("written_s1", "written_s2"), _sums(results), strict=True):
                whole &= found == _field(reported, name)
        return whole

    def as_planned(self, rows: Words, nonces: Words) -> bool:
        """Whether all frames ended well and were executed as they were planned."""
        trailers = self.split(rows)[1][:, -TRAILER_WORDS:]
        return bool(
            (trailers[:, 0] == self.said + (nonces << _NONCE_LOW)).all()
            and (_field(trailers, "iterations") == self.iterations).all()
            and (trailers[:, _FIELDS["words_in"].word] == self.counted).all()
        )


class ExpectedReplies:
    """The replies of chains that run at once, by their engines."""

    def __init__(self, chains: Mapping[int, ChainPieces]) -> None:
        self._chains = {engine: (chain.frames, chain.reports) for engine, chain in chains.items()}
        kinds: dict[_Kind, dict[_Group, list[_Listed]]] = {}
        for engine, chain in chains.items():
            for report in chain.reports:
                frame, owner = chain.frames[report.last], chain.owners[report.last] if chain.owners else None
                kind = frame.header.mode, reply_words(frame), report_words(frame)
                group = owner, frame.tag if kind[1] > TRAILER_WORDS else None
                listed = kinds.setdefault(kind, {}).setdefault(group, [])
                listed.append((engine, report.at, chain.frames[report.frames]))
        self._alike = [_alike(kind, groups) for kind, groups in kinds.items()]

    def late(self, nonces: Mapping[int, int], memory: NDArray[np.uint8]) -> set[int]:
        """Engines whose replies are not all there: a copy made while they came may lack any part of them."""
        late: set[int] = set()
        for alike in self._alike:
            whole = alike.are_whole(alike.rows(memory), self._wanted(alike, nonces))
            if not whole.all():
                late.update(alike.engines[~whole].tolist())
        return late

    def read(self, nonces: Mapping[int, int], memory: NDArray[np.uint8]) -> list[FrameReplies]:
        """What the engines said.

        Raises: DeviceError when one reports an error, or a reply is damaged or another frame's.
        """
        found: list[FrameReplies] = []
        for alike in self._alike:
            rows, wanted = alike.rows(memory), self._wanted(alike, nonces)
            if not (alike.are_whole(rows, wanted).all() and alike.as_planned(rows, wanted)):
                self._blame(nonces, memory)
            found += _read(alike, rows)
        return found

    def _wanted(self, alike: _Alike, nonces: Mapping[int, int]) -> Words:
        """The nonces that replies must have: of frames that report together the sum of all."""
        by_engine = np.zeros(1 + max(self._chains), np.uint64)
        for engine, nonce in nonces.items():
            by_engine[engine] = nonce
        found: Words = by_engine[alike.engines] * alike.members & np.uint64(_COUNT)
        return found

    def _blame(self, nonces: Mapping[int, int], memory: NDArray[np.uint8]) -> None:
        """Tell what is wrong with the first reply that is.

        Raises: DeviceError.
        """
        for engine, (frames, reports) in self._chains.items():
            for report in reports:
                size = reply_words(frames[report.last]) * _WORD_BYTES
                words = memory[report.at : report.at + size].view(np.uint64)
                wrong = _wrong(frames[report.frames], words, nonces[engine])
                if wrong is not None:
                    first, last = report.first + 1, report.last + 1
                    which = f"frame {last}" if first == last else f"frames {first} to {last}"
                    raise DeviceError(f"{which} of {len(frames)}: {wrong}")
        raise DeviceError("a reply changed while it was read")


def read_replies(chain: ChainPieces, memory: NDArray[np.uint8]) -> list[FrameReplies]:
    """What the engine said of the frames of a chain.

    Raises: as ``ExpectedReplies.read``.
    """
    return ExpectedReplies({0: chain}).read({0: chain.nonce}, memory)


def failure(words: Words) -> str | None:
    """The error that these words report, if they end with the trailer of a reply to a bad frame."""
    last = words[-TRAILER_WORDS:]
    if last.size < TRAILER_WORDS or check_sums(last[:-2]) != (int(last[-2]), int(last[-1])):
        return None
    trailer = decode_trailer(last)
    if trailer.magic != REPLY_MAGIC or trailer.status not in list(Status) or trailer.status == Status.OK:
        return None
    return f"the engine reports: {Status(trailer.status).words} (status {trailer.status})"


def _alike(kind: _Kind, groups: Mapping[_Group, Sequence[_Listed]]) -> _Alike:
    listed = [each for group in groups.values() for each in group]
    counts = [_counts(frames) for _, _, frames in listed]
    ends = np.cumsum([len(group) for group in groups.values()]).tolist()
    begins = [0, *ends[:-1]]
    zeros = {field.name: 0 for field in TRAILER_FIELDS}
    said = pack(TRAILER_FIELDS, zeros | {"magic": REPLY_MAGIC, "version": VERSION, "status": Status.OK})[0]
    words_out = _FIELDS["words_out"].low
    return _Alike(
        frames=[frames[-1] for _, _, frames in listed],
        starts=np.array([at for _, at, _ in listed], np.int64) // _WORD_BYTES,
        mode=kind[0],
        size=kind[1],
        reported=kind[2],
        engines=np.array([engine for engine, _, _ in listed], np.int64),
        members=np.array([len(frames) for _, _, frames in listed], np.uint64),
        said=np.full(len(listed), said, np.uint64),
        iterations=np.array([iterations for iterations, _, _ in counts], np.uint64),
        counted=np.array([taken | given << words_out for _, taken, given in counts], np.uint64),
        groups=[
            (owner, slice(begin, end)) for (owner, _), begin, end in zip(groups, begins, ends, strict=True)
        ],
    )


def _read(alike: _Alike, rows: Words) -> list[FrameReplies]:
    """Replies that have been checked."""
    results, reported = alike.split(rows)
    sums = decode_sums(reported[:, :-TRAILER_WORDS], alike.mode)
    largest, saturations = _field(reported, "largest"), _field(reported, "saturations")
    written = _field(reported, "written_s1")
    return [
        FrameReplies(
            owner=owner,
            frames=alike.frames[own],
            results=results[own],
            sums=sums[own],
            largest=int(largest[own].max()),
            saturations=int(saturations[own].sum()),
            written=written[own],
        )
        for owner, own in alike.groups
    ]


def _counts(frames: Sequence[PlannedFrame]) -> tuple[int, int, int]:
    """Iterations, words in and words out of frames that report together."""
    headers = [frame.header for frame in frames]
    return (
        sum(header.iterations for header in headers) & _COUNT,
        sum(header.frame_words for header in headers) & _COUNT,
        sum(header.result_words for header in headers) + headers[-1].side_words,
    )


def _field(reported: Words, name: str) -> Words:
    """A field of all trailers."""
    bits = _FIELDS[name]
    words = reported[:, bits.word - TRAILER_WORDS]
    return words >> np.uint64(bits.low) & np.uint64((1 << bits.bits) - 1)


def _sums(rows: Words) -> tuple[Words, Words]:
    """Check sums of each row."""
    falling = np.arange(rows.shape[1], 0, -1, dtype=np.uint64)
    return rows.sum(axis=1, dtype=np.uint64), rows @ falling


def _wrong(frames: Sequence[PlannedFrame], words: Words, nonce: int) -> str | None:
    """What is wrong with a reply."""
    to_host = words.size - report_words(frames[-1])
    results, reported = words[:to_host], words[to_host:]
    if check_sums(reported[:-2]) != (int(reported[-2]), int(reported[-1])):
        return "the reply's check words do not match"
    trailer = decode_trailer(reported[-TRAILER_WORDS:])
    first, wanted = (trailer.magic, trailer.version, trailer.status), (REPLY_MAGIC, VERSION, Status.OK.value)
    if first != wanted:
        return f"the trailer's magic, version and status are {first}, must be {wanted}"
    nonces = nonce * len(frames) & _COUNT
    if trailer.nonce != nonces:
        return (
            f"this is the reply to another request: its nonce is {trailer.nonce:#010x}, "
            f"must be {nonces:#010x}; does another program use the device?"
        )
    counts = (trailer.iterations, trailer.words_in, trailer.words_out)
    planned = _counts(frames)
    if counts != planned:
        return (
            f"the engine counted {counts[0]} iterations, {counts[1]} words in and {counts[2]} out, "
            f"must be {planned[0]}, {planned[1]} and {planned[2]}"
        )
    if to_host and check_sums(results) != (trailer.written_s1, trailer.written_s2):
        return "the results' check words do not match"
    return None
