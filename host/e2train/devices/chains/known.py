# SPDX-License-Identifier: Apache-2.0
"""Batches of operations that come again: their frames are kept as they stood, and sent with new values.

Which frames operations take, and where each of their bytes stands among what the host sends, does not depend
on weights, coefficients, shifts and the phases of dithering. So a batch that has come twice, with the same
tensors at the same places, is neither planned nor laid out again: bytes are copied, and what changes is
written over.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.chains.jobs import sent_values
from e2train.devices.chains.laid import LaidRound, Runnable
from e2train.devices.chains.operands import Work, operands
from e2train.devices.chains.partial_sums import Adding, PartialSums, Parts
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.replies import ExpectedReplies
from e2train.devices.chains.rounds import Rounds, collectors
from e2train.devices.chains.transfer import ChainPieces, next_nonce
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq_buffer import Buffer
from e2train.devices.resident import Affine, Convolution, DeviceTensor
from e2train.numerics.frames.layout import HEADER_FIELDS, HEADER_WORDS, Words
from e2train.numerics.rounding import DITHER_PHASES

__all__ = ["KnownBatch", "KnownBatches", "Recording", "structure"]

_WORD_BYTES = 8
_VARYING = frozenset({"w", "a", "b", "d", "shift", "dither"})  # of operations, between batches that are alike
_FIELDS = {field.name: field for field in HEADER_FIELDS}
_SHIFT, _PHASE, _NONCE = _FIELDS["shift"], _FIELDS["phase"], _FIELDS["nonce"]
_CHECK = HEADER_WORDS - 1

_FRAME_BYTES = 400  # of what is kept of a frame, beside its bytes
_MOST_SEEN = 4096  # batches
_UNUSED_BATCHES = 4096  # after which one makes room: many more than a step has

Indices = NDArray[np.int64]


def structure(calls: Sequence[Work], *state: object) -> bytes:
    """A key of all on which the frames of operations depend; ``state`` is what else they depend on."""
    hashed = hashlib.blake2b(repr(state).encode(), digest_size=16)
    for call in calls:
        listed: list[object] = [type(call).__name__]
        for name in (field.name for field in fields(call)):
            value = getattr(call, name)
            if isinstance(value, DeviceTensor):
                listed.append((value.kind, value.shape, value.view))
                hashed.update(value.offsets.tobytes())
            elif name in _VARYING:
                listed.append(value.shape if isinstance(value, np.ndarray) else value is None)
            else:
                listed.append(value)
        hashed.update(repr(listed).encode())
    return hashed.digest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Headers:
    """Headers of a round. Shapes: (headers,)"""

    words: Indices  # where each begins among what is sent
    engines: Indices
    owners: Indices  # -1: none
    phases: Indices  # from that of the operation on; -1: no dithering


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """Where values stand that change: of an operation with so many samples, by their key."""

    owner: int
    samples: int
    key: Any
    at: int  # bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class _KnownRound:
    """A round as it was sent, without nonces, shifts and phases; frames have no sources any more."""

    addresses: tuple[int, int]  # of the buffers to send and to receive
    image: Words
    headers: _Headers
    places: Sequence[_Place]
    laid: LaidRound
    owners: Sequence[int]
    reply_bytes: int

    @cached_property
    def nbytes(self) -> int:
        """About so many, of this machine's memory."""
        pieces = [each for chain in self.laid.chains.values() for each in (chain.mm2s, chain.s2mm)]
        of_pieces = 21 * sum(each.addresses.size for each in pieces)
        return self.image.nbytes + of_pieces + _FRAME_BYTES * self.laid.frames


class _Values:
    """What operations of a batch send this time."""

    def __init__(self, calls: Sequence[Work], cfg: EngineConfig) -> None:
        self._calls = calls
        self._cfg = replace(cfg, engines=1)
        self._sent: dict[tuple[int, int], Mapping[Any, NDArray[Any]]] = {}
        # The last one is of frames that belong to no operation.
        shifts = [call.shift if isinstance(call, Convolution | Affine) else 0 for call in calls]
        dithers = [(call.dither or 0) if isinstance(call, Affine) else 0 for call in calls]
        self._shifts = np.array([*shifts, 0], np.uint64) << np.uint64(_SHIFT.low)
        self._dithers = np.array([*dithers, 0], np.int64)

    def sent(self, place: _Place) -> NDArray[np.uint8]:
        """The bytes that belong to a place."""
        own = place.owner, place.samples
        if own not in self._sent:
            self._sent[own] = sent_values(self._calls[place.owner], self._cfg, place.samples)
        return self._sent[own][place.key].reshape(-1).view(np.uint8)

    def first_words(self, headers: _Headers) -> Words:
        """What comes to the first word of each header: shift and phase."""
        phases = (self._dithers[headers.owners] + headers.phases) % DITHER_PHASES
        dithered = np.where(headers.phases < 0, 0, phases).astype(np.uint64)
        words: Words = self._shifts[headers.owners] + (dithered << np.uint64(_PHASE.low))
        return words


@dataclass(frozen=True, kw_only=True, eq=False)
class _Again:
    """A round that is sent again, with new values."""

    known: _KnownRound
    values: _Values

    @property
    def owners(self) -> Sequence[int]:
        """Numbers of its operations, in order."""
        return self.known.owners

    @property
    def reply_bytes(self) -> int:
        """What comes back."""
        return self.known.reply_bytes

    @cached_property
    def _nonces(self) -> dict[int, int]:
        return {engine: next_nonce() for engine in self.known.laid.chains}

    def write(self, send: Buffer, begin: int, receive: Buffer) -> LaidRound:
        """Lay it out in the buffer to send, from the byte ``begin`` on.

        Raises: DeviceError where it stood elsewhere before.
        """
        known, headers = self.known, self.known.headers
        if (send.address, receive.address, begin) != (*known.addresses, known.laid.begin):
            raise DeviceError("the buffers of the board have moved")
        nonces = np.zeros(1 + max(self._nonces), np.uint64)
        nonces[list(self._nonces)] = list(self._nonces.values())
        first, nonce = self.values.first_words(headers), nonces[headers.engines]
        words = known.image.copy()
        words[headers.words + _SHIFT.word] += first
        words[headers.words + _NONCE.word] += nonce
        words[headers.words + _CHECK] += first + nonce
        send.memory[begin : begin + words.nbytes] = words.view(np.uint8)
        for place in known.places:
            values = self.values.sent(place)
            send.memory[place.at : place.at + values.size] = values
        chains = {
            engine: replace(chain, nonce=self._nonces[engine]) for engine, chain in known.laid.chains.items()
        }
        return replace(known.laid, chains=chains)


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownBatch:
    """The rounds of operations, and which partial sums they add up and write."""

    labels: list[str]
    rounds: Sequence[_KnownRound]
    adding: Sequence[Adding]
    placed: Mapping[int, Sequence[Parts]]

    @cached_property
    def nbytes(self) -> int:
        """About so many, of this machine's memory."""
        return sum(each.nbytes for each in self.rounds)

    def again(
        self, calls: Sequence[Work], cfg: EngineConfig, sums: PartialSums, finish: Callable[[], None]
    ) -> tuple[Iterator[_Again], list[Callable[..., Any]]]:
        """Its rounds with the values of other operations, and what collects their outcomes."""
        sums.add(self.adding)
        placed = {number: [each.again() for each in parts] for number, parts in self.placed.items()}
        for parts in placed.values():
            sums.expect(parts)
        values = _Values(calls, cfg)
        rounds = (_Again(known=known, values=values) for known in self.rounds)
        return rounds, collectors(calls, placed, finish)


class Recording:
    """Takes down the rounds of a batch while they run."""

    def __init__(
        self, key: bytes, calls: Sequence[Work], planned: Rounds, sums: PartialSums, cfg: EngineConfig
    ) -> None:
        self._key = key
        self._calls = calls
        self._planned = planned
        self._cfg = replace(cfg, engines=1)
        self._by_chance = False
        self._adding = sums.added
        self._lean: dict[int, PlannedFrame] = {}  # frames without sources, by identity
        self._found: dict[tuple[int, int], Mapping[int, Any]] = {}
        self._rounds: list[_KnownRound] = []

    def take(self, laid: LaidRound, run: Runnable, *, send: Buffer, receive: Buffer) -> None:
        """A round has run, and what was sent still stands there."""
        if self._by_chance:
            return
        begin = laid.begin
        chains = {engine: self._without_sources(chain) for engine, chain in laid.chains.items()}
        image = send.memory[begin : laid.end].copy().view(np.uint64)
        self._rounds.append(
            _KnownRound(
                addresses=(send.address, receive.address),
                image=image,
                headers=_take_headers(self._calls, laid.chains, image, begin),
                places=self._places(laid.chains),
                laid=replace(laid, chains=chains, expected=ExpectedReplies(chains)),
                owners=run.owners,
                reply_bytes=run.reply_bytes,
            )
        )

    def keep(self, known: KnownBatches) -> None:
        """Let the batch be known from now on.

        Not where different parts of weights happened to be equal and stood at the same place.
        """
        if self._by_chance:
            return
        lean, placed = self._lean, self._planned.placed
        batch = KnownBatch(
            labels=self._planned.labels,
            rounds=self._rounds,
            adding=[(lean[id(frame)], number, first) for frame, number, first in self._adding],
            placed={
                number: [
                    Parts(at=each.at, frames=[lean[id(frame)] for frame in each.frames]) for each in parts
                ]
                for number, parts in placed.items()
            },
        )
        known.keep(self._key, batch)

    def _without_sources(self, chain: ChainPieces) -> ChainPieces:
        for frame in chain.frames:
            if id(frame) not in self._lean:
                self._lean[id(frame)] = replace(frame, sources=(), results=frame.results[:1])
        frames = [self._lean[id(frame)] for frame in chain.frames]
        return replace(chain, frames=frames, headers=(), arrays=())

    def _places(self, chains: Mapping[int, ChainPieces]) -> list[_Place]:
        found: dict[int, _Place] = {}  # by address: engines share what they are sent alike
        for engine, chain in chains.items():
            for owner, values, at in chain.arrays:
                if owner is None or not isinstance(self._calls[owner], Convolution | Affine):
                    continue
                samples = operands(self._planned.shares[owner][engine][1])[0].N
                key = self._keys(owner, engine, samples)[id(values)]
                self._by_chance |= at in found and found[at].key != key
                found[at] = _Place(owner=owner, samples=samples, key=key, at=at)
        return list(found.values())

    def _keys(self, owner: int, engine: int, samples: int) -> Mapping[int, Any]:
        """Keys of what an engine is sent with frames of an operation, by identity."""
        if (owner, engine) not in self._found:
            sent = _sent(self._planned.jobs[owner][engine].frames)
            keys = sent_values(self._calls[owner], self._cfg, samples)
            self._found[owner, engine] = dict(zip(sent, keys, strict=True))
        return self._found[owner, engine]


class KnownBatches:
    """The batches that have come twice; those that have not come for long make room."""

    def __init__(self, most_bytes: int) -> None:
        """``most_bytes`` of this machine's memory, about, may be taken."""
        self._most_bytes = most_bytes
        self._seen: OrderedDict[bytes, int] = OrderedDict()  # from which number on each is worth a recording
        self._known: OrderedDict[bytes, KnownBatch] = OrderedDict()  # the least recently used first
        self._last: dict[bytes, int] = {}  # use of each
        self._number = 0

    @property
    def nbytes(self) -> int:
        """About so many are taken."""
        return sum(batch.nbytes for batch in self._known.values())

    def find(self, key: bytes) -> KnownBatch | None:
        """A batch that is known."""
        self._number += 1
        if key not in self._known:
            return None
        self._known.move_to_end(key)
        self._last[key] = self._number
        return self._known[key]

    def is_worth_keeping(self, key: bytes) -> bool:
        """Whether a batch that is not known has come before, and was not refused of late."""
        if key in self._seen:
            return self._seen[key] <= self._number
        self._seen[key] = 0
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        return False

    def keep(self, key: bytes, batch: KnownBatch) -> None:
        """Keep a batch, where there is room."""
        while self.nbytes + batch.nbytes > self._most_bytes:
            oldest = next(iter(self._known), None)
            if oldest is None or self._number - self._last[oldest] < _UNUSED_BATCHES:
                self._seen[key] = self._number + _UNUSED_BATCHES
                return
            del self._known[oldest]
        self._known[key], self._last[key] = batch, self._number

    def forget(self) -> None:
        """Tensors or buffers are elsewhere now."""
        self._seen.clear()
        self._known.clear()
        self._last.clear()


def _sent(frames: Sequence[PlannedFrame]) -> list[int]:
    """What the host sends with frames of an operation, by identity, in order."""
    parts = (part for frame in frames for part in frame.sources)
    return list(dict.fromkeys(id(part) for part in parts if isinstance(part, np.ndarray)))


def _take_headers(
    calls: Sequence[Work], chains: Mapping[int, ChainPieces], image: Words, begin: int
) -> _Headers:
    """Where headers stand, whose nonces, shifts and phases become 0."""
    rows, firsts, nonces = [], [], []
    for engine, chain in chains.items():
        by_place = {at: (owner, header) for owner, header, at in chain.headers}  # equal ones stand once
        for at, (owner, header) in by_place.items():
            phase, first = -1, 0
            if owner is not None:
                call = calls[owner]
                first = header.shift << _SHIFT.low
                if header.dithers and isinstance(call, Affine):
                    phase = (header.phase - (call.dither or 0)) % DITHER_PHASES
                    first += header.phase << _PHASE.low
            rows.append(((at - begin) // _WORD_BYTES, engine, -1 if owner is None else owner, phase))
            firsts.append(first)
            nonces.append(chain.nonce)
    words, engines, owners, phases = np.array(rows, np.int64).T
    low, nonce = np.array(firsts, np.uint64), np.array(nonces, np.uint64)
    image[words + _SHIFT.word] -= low
    image[words + _NONCE.word] -= nonce
    image[words + _CHECK] -= low + nonce
    return _Headers(words=words, engines=engines, owners=owners, phases=phases)
