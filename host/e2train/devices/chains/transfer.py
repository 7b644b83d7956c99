# SPDX-License-Identifier: Apache-2.0
"""Planned frames as pieces for the DMA."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.devices.chains.address_map import OWN
from e2train.devices.chains.plan import PlannedFrame, Run, pace, paced_cycles
from e2train.devices.chains.reports import held_reports
from e2train.numerics.frames import Header, encode_header
from e2train.numerics.frames.layout import (
    HEADER_WORDS,
    Words,
)
from e2train.packing.descriptors import DESCRIPTOR_BYTES, Pieces

__all__ = [
    "Area",
    "ChainPieces",
    "Report",
    "lay_out",
    "next_nonce",
    "planned_cycles",
    "reply_bytes",
    "reply_words",
    "report_words",
    "scratch_bytes",
]

_WORD_BYTES = 8
_NONCE_WORD = 3
_HEADER = -1  # in the place of an array's number
_NONCES = count(secrets.randbits(32))
_NONCE_MASK = (1 << 32) - 1


Columns = tuple[NDArray[np.int64], NDArray[np.int64]]  # addresses and bytes of runs
Places = Callable[[NDArray[np.int64], NDArray[np.int64]], Columns]


def _where_they_are(addresses: NDArray[np.int64], nbytes: NDArray[np.int64]) -> Columns:
    """Places of a memory whose addresses are the DMA's."""
    return addresses & ~OWN, nbytes


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Which frames of a chain the last one of them reports for, and where that is to be found."""

    first: int
    last: int
    at: int  # in the memory of its area; before it stand results that come to the host

    @property
    def frames(self) -> slice:
        """Of those of the chain."""
        return slice(self.first, self.last + 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChainPieces:
    """The pieces of a chain of frames, and where the replies to the host are to be found."""

    frames: Sequence[PlannedFrame]
    nonce: int  # of all of them
    mm2s: Pieces
    s2mm: Pieces
    reports: Sequence[Report]
    owners: Sequence[int | None] = ()  # of the frames
    headers: Sequence[tuple[int | None, Header, int]] = ()  # as written once, by owner, and where
    arrays: Sequence[tuple[int | None, NDArray[Any], int]] = ()  # likewise


def scratch_bytes(frame: PlannedFrame) -> int:
    """The most that a frame takes of the scratch memory: header, what the host sends, reply, descriptors."""
    own, pieces = 0, len(frame.results) + len(frame.sources) + 2
    for part in frame.sources:
        if isinstance(part, np.ndarray):
            own += part.nbytes
        else:
            pieces += len(part)
    return own + (HEADER_WORDS + reply_words(frame)) * _WORD_BYTES + pieces * DESCRIPTOR_BYTES


def reply_words(frame: PlannedFrame) -> int:
    """Words of a reply that come to the host, where the frame reports."""
    return report_words(frame) + (0 if frame.results else frame.header.result_words)


def report_words(frame: PlannedFrame) -> int:
    """Words behind the results: sums and trailer."""
    return frame.header.reply_words - frame.header.result_words


def reply_bytes(frames: Sequence[PlannedFrame], owners: Sequence[int | None] = ()) -> int:
    """What comes to the host of a chain of frames."""
    held = held_reports(frames, owners)
    return (
        sum(reply_words(frame) for frame, holds in zip(frames, held, strict=True) if not holds) * _WORD_BYTES
    )


def planned_cycles(
    frames: Sequence[PlannedFrame],
    owners: Sequence[int | None] = (),
    counts: Callable[[int | None, PlannedFrame], bool] = lambda owner, frame: True,
) -> int:
    """Estimate of what an engine takes for a chain of frames, or for those of them that count."""
    held = held_reports(frames, owners)
    return paced_cycles(
        pace(frame, holds=holds)
        for frame, owner, holds in zip(frames, owners or [None] * len(frames), held, strict=True)
        if counts(owner, frame)
    )


def lay_out(
    frames: Sequence[PlannedFrame],
    send: Area,
    receive: Area,
    places: Places = _where_they_are,
    *,
    owners: Sequence[int | None] = (),
    more: bool = False,
) -> ChainPieces:
    """Write what the host sends to one area, leave replies their room in another, and collect all pieces.

    ``places`` says where runs of the device's memory lie, and those of ``address_map.OWN``; with ``more``
    other frames follow in the chain. What several frames of an operation, their owner, are sent alike stands
    once in the area, arrays be it for one engine or several. Places do not depend on the scales of a step.
    """
    nonce = next_nonce()
    headers: dict[tuple[int | None, int, bool, bool], Run] = {}  # by owner and identity
    written: list[tuple[int | None, Header, int]] = []
    arrays: dict[int, Run] = {}  # by identity
    sent: list[tuple[int | None, NDArray[Any], int]] = []
    counts: Counter[int | None] = Counter()  # of arrays by owner
    mm2s: list[Run] = []
    s2mm: list[Run] = []
    reports: list[Report] = []
    for index, (frame, holds) in enumerate(zip(frames, held_reports(frames, owners), strict=True)):
        owner, follows = owners[index] if owners else None, more or index + 1 < len(frames)
        named = owner, id(frame.header), follows, holds
        if named not in headers:
            words = _header_words(frame.header, follows, holds, nonce)
            run = send.put_once(words.view(np.uint8), key=(owner, _HEADER))
            headers[named] = _own(run)
            written.append((owner, frame.header, run[0] - send.base))
        mm2s.append(headers[named])
        for part in frame.sources:
            if isinstance(part, np.ndarray):
                if id(part) not in arrays:
                    key = owner, counts[owner]
                    counts[owner] += 1
                    run = send.put_once(part.reshape(-1).view(np.uint8), key=key)
                    arrays[id(part)] = _own(run)
                    sent.append((owner, part, run[0] - send.base))
                mm2s.append(arrays[id(part)])
            else:
                mm2s += part
        s2mm += frame.results
        if not holds:
            reply = receive.take(reply_words(frame) * _WORD_BYTES)
            first = reports[-1].last + 1 if reports else 0
            reports.append(Report(first=first, last=index, at=reply[0] - receive.base))
            s2mm.append(_own(reply))
    ways = (_joined(*places(*_columns(runs))) for runs in (mm2s, s2mm))
    return ChainPieces(
        frames=frames,
        nonce=nonce,
        mm2s=next(ways),
        s2mm=next(ways),
        reports=reports,
        owners=owners,
        headers=written,
        arrays=sent,
    )


def next_nonce() -> int:
    """A nonce that this process has not used in its last 2**32 chains.

    Of n frames that report together the sum differs from that of any earlier chain for 2**32 / n chains.
    """
    return next(_NONCES) & _NONCE_MASK


def _header_words(header: Header, more: bool, holds: bool, nonce: int) -> Words:
    """The words of a header with its nonce: the check word is a sum."""
    words = _encoded(header, more, holds).copy()
    words[_NONCE_WORD] += np.uint64(nonce)
    words[-1] += np.uint64(nonce)
    return words


@lru_cache(maxsize=4096)
def _encoded(header: Header, more: bool, holds: bool) -> Words:
    return encode_header(replace(header, more=int(more), holds=int(holds), nonce=0))


def _own(run: Run) -> Run:
    """A run whose address is the DMA's, among others."""
    return run[0] | OWN, run[1]


def _columns(runs: Sequence[Run]) -> Columns:
    flat = np.fromiter(chain.from_iterable(runs), np.int64, 2 * len(runs))  # faster than an array of tuples
    return flat[::2], flat[1::2]


def _joined(addresses: NDArray[np.int64], sizes: NDArray[np.int64]) -> Pieces:
    """One packet, with neighbours in the memory as one piece."""
    ends = addresses + sizes
    breaks = np.concatenate([[True], addresses[1:] != ends[:-1]])
    starts = np.flatnonzero(breaks)
    lasts = np.append(starts[1:], addresses.size) - 1
    return Pieces(
        addresses=addresses[starts],
        nbytes=ends[lasts] - addresses[starts],
        ends=np.arange(starts.size) == starts.size - 1,
    )
