# SPDX-License-Identifier: Apache-2.0
"""Chains of descriptors for an AXI DMA in scatter-gather mode, and what such a chain does.

A descriptor is 32 bytes at a multiple of 64 (Xilinx PG021): NXTDESC, BUFFER_ADDRESS, eight reserved bytes,
CONTROL (bits 0..25 bytes, 26 TXEOF, 27 TXSOF) and STATUS (bits 0..25 bytes, 26 RXEOF, 27 RXSOF,
28 DMAIntErr, 29 DMASlvErr, 30 DMADecErr, 31 Cmplt). There is no data realignment: pieces begin and end at
multiples of 8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from e2train.numerics.frames.layout import Words

__all__ = [
    "DESCRIPTOR_BYTES",
    "Chain",
    "ChainError",
    "Pieces",
    "check_received",
    "interpret",
    "kept_descriptors",
    "received",
    "write_chains",
    "write_descriptors",
]

Bytes = NDArray[np.uint8]
Stream = Callable[[Words], Words]

DESCRIPTOR_BYTES = 64  # from one to the next
_STATUS = 0x1C
WORD_BYTES = 8
_MOST_BYTES = (1 << 26) - 1 & -WORD_BYTES
_LENGTH = np.uint32((1 << 26) - 1)
_END, _START, _COMPLETE = (np.uint32(1 << bit) for bit in (26, 27, 31))
_ERRORS = {1 << 28: "DMAIntErr", 1 << 29: "DMASlvErr", 1 << 30: "DMADecErr"}
_DESCRIPTOR = np.dtype(
    {
        "names": ["next", "address", "control", "status"],
        "formats": ["<u8", "<u8", "<u4", "<u4"],
        "offsets": [0x00, 0x08, 0x18, 0x1C],
        "itemsize": DESCRIPTOR_BYTES,
    }
)
_RAW = f"V{DESCRIPTOR_BYTES}"


class ChainError(RuntimeError):
    """A chain that cannot be run, or that did not do what was wanted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pieces:
    """Pieces of memory in the order in which one channel moves them; packets end behind some of them.

    S2MM's packets end where the stream says, so that ``ends`` is what is expected of it.
    """

    addresses: NDArray[np.int64]
    nbytes: NDArray[np.int64]
    ends: NDArray[np.bool_]

    def __post_init__(self) -> None:
        count = self.addresses.size
        if not (self.addresses.shape == self.nbytes.shape == self.ends.shape == (count,)):
            raise ChainError("pieces need an address, a length and an end each")
        if not count or not self.ends[-1]:
            raise ChainError("a chain needs pieces, and a packet that ends with the last one")
        wrong = (self.nbytes < 1) | (self.nbytes > _MOST_BYTES)
        wrong |= (self.addresses < 0) | ((self.addresses | self.nbytes) % WORD_BYTES != 0)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ChainError(
                f"piece {at + 1} of {count} is {self.nbytes[at]} bytes at {self.addresses[at]}; it must be "
                f"{WORD_BYTES}..{_MOST_BYTES} bytes, and both multiples of {WORD_BYTES}"
            )

    @classmethod
    def of(cls, pieces: Iterable[tuple[int, int, bool]]) -> Pieces:
        """From (address, bytes, whether a packet ends) of each."""
        listed = list(pieces)
        columns = list(zip(*listed, strict=True)) or [(), (), ()]
        return cls(
            addresses=np.array(columns[0], np.int64),
            nbytes=np.array(columns[1], np.int64),
            ends=np.array(columns[2], np.bool_),
        )

    def then(self, others: Pieces) -> Pieces:
        """These and others as one packet."""
        ends = np.concatenate([self.ends, others.ends])
        ends[self.ends.size - 1] = False
        return Pieces(
            addresses=np.concatenate([self.addresses, others.addresses]),
            nbytes=np.concatenate([self.nbytes, others.nbytes]),
            ends=ends,
        )

    @cached_property
    def words(self) -> int:
        """Words that move."""
        return int(self.nbytes.sum()) // WORD_BYTES

    @cached_property
    def controls(self) -> NDArray[np.uint32]:
        """The CONTROL of each descriptor."""
        starts = np.concatenate([[True], self.ends[:-1]])
        ways = np.where(self.ends, _END, np.uint32(0)) | np.where(starts, _START, np.uint32(0))
        found: NDArray[np.uint32] = self.nbytes.astype(np.uint32) | ways
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Where the first and the last descriptor of a channel stand."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """Descriptors, where they stand one behind the other."""
        return (self.last - self.first) // DESCRIPTOR_BYTES + 1


def write_descriptors(memory: Bytes, pieces: Pieces, at: int, *, base: int = 0) -> Chain:
    """Write one descriptor per piece into the memory, one behind the other from the address ``at`` on.

    Addresses are those of the DMA, for which the memory begins at ``base``; the last one points to the first.
    Raises: ChainError when there is no room.
    """
    return write_chains(memory, [(pieces, None, None)], at, base=base)[0]


def write_chains(
    memory: Bytes,
    chains: Sequence[tuple[Pieces, int | None, Chain | None]],
    at: int,
    *,
    base: int = 0,
) -> list[Chain]:
    """Write the descriptors of several chains, one behind the other.

    The first one of a chain may have a place of its own, and the last ones may stand elsewhere already.
    Raises: ChainError when there is no room.
    """
    parts, nexts, found = [], [], []
    for pieces, first, kept in chains:
        behind = (
            np.zeros(0, np.int64) if kept is None else kept.first + DESCRIPTOR_BYTES * np.arange(kept.count)
        )
        count = pieces.addresses.size - behind.size
        places = at + DESCRIPTOR_BYTES * np.arange(count)
        if first is not None:
            places = np.concatenate([[first], places[:-1]])
        at += DESCRIPTOR_BYTES * (count - (first is not None))
        every = np.concatenate([places, behind])
        parts.append((pieces, places))
        nexts.append(np.concatenate([every[1:], every[:1]])[:count])
        found.append(Chain(first=int(every[0]), last=int(every[-1])))
    places = np.concatenate([each for _, each in parts])
    low, end = int(places.min()), int(places.max()) + DESCRIPTOR_BYTES
    if (places % DESCRIPTOR_BYTES).any() or not base <= low <= end <= base + memory.size:
        raise ChainError(
            f"{places.size} descriptors at {low:#x} to {end:#x} are not at multiples of {DESCRIPTOR_BYTES} "
            f"within the memory at {base:#x} to {base + memory.size:#x}"
        )
    rows = _rows([(pieces, each.size) for pieces, each in parts], np.concatenate(nexts))
    _table(memory).view(_RAW)[(places - base) // DESCRIPTOR_BYTES] = rows.view(_RAW)
    return found


def kept_descriptors(pieces: Pieces, at: int, *, first: int) -> Bytes:
    """The descriptors of all pieces but the first one, from ``at`` on; the last one points to ``first``."""
    count = pieces.addresses.size
    places = at + DESCRIPTOR_BYTES * np.arange(count - 1)
    return _rows([(pieces, count)], np.concatenate([places, [first]]))[1:].view(np.uint8)


def _rows(chains: Sequence[tuple[Pieces, int]], nexts: NDArray[np.int64]) -> NDArray[np.void]:
    """Descriptors for the first so many pieces of each of some chains, which point to the next ones."""
    table = np.zeros(nexts.size, _DESCRIPTOR)
    table["next"] = nexts
    table["address"] = np.concatenate([pieces.addresses[:count] for pieces, count in chains])
    table["control"] = np.concatenate([pieces.controls[:count] for pieces, count in chains])
    return table


def check_received(memory: Bytes, pieces: Pieces, chain: Chain, *, base: int = 0) -> None:
    """Make sure that an S2MM channel has filled all pieces, and that packets ended where they should.

    Raises: ChainError.
    """
    size = pieces.addresses.size * DESCRIPTOR_BYTES
    status = memory[chain.first - base : chain.first - base + size].view(_DESCRIPTOR)["status"]
    wanted = pieces.nbytes.astype(np.uint32) | _COMPLETE | np.where(pieces.ends, _END, np.uint32(0))
    wrong = (status & ~_START) != wanted
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ChainError(
            f"piece {at + 1} of {status.size} received {_describe(int(status[at]))}, "
            f"must have received {_describe(int(wanted[at]))}"
        )


def received(memory: Bytes, pieces: Pieces, chain: Chain, *, base: int = 0) -> Words:
    """What an S2MM channel has received of its first packet, as far as its descriptors show."""
    size = pieces.addresses.size * DESCRIPTOR_BYTES
    status = memory[chain.first - base : chain.first - base + size].view(_DESCRIPTOR)["status"]
    parts = [np.zeros(0, np.uint64)]
    for address, word in zip((pieces.addresses - base).tolist(), status.tolist(), strict=True):
        moved = word & int(_LENGTH) if word & int(_COMPLETE) else 0
        parts.append(memory[address : address + moved].view(np.uint64))
        if word & int(_END) or not moved:
            break
    return np.concatenate(parts)


def interpret(memory: Bytes, mm2s: Chain, s2mm: Chain, stream: Stream, *, base: int = 0) -> None:
    """Run two chains as the DMA would, with ``stream`` for what stands between its channels.

    It takes the words of each packet and gives those of one. Statuses are written into the descriptors.
    Raises: ChainError where the DMA would report an error or wait for ever.
    """
    sources, places = _Channel(memory, mm2s, base), _Channel(memory, s2mm, base)
    parts: list[Words] = []
    for index, end in enumerate((sources.control & _END).tolist()):
        parts.append(sources.words(index))
        sources.complete(index, parts[-1].nbytes)
        if end:
            places.receive(stream(np.concatenate(parts)))
            parts = []
    if parts:
        raise ChainError(f"the chain ends within a packet, after {sum(map(len, parts))} words of it")
    if places.left:
        raise ChainError(f"{places.left} pieces of memory were left without words to receive")


class _Channel:
    """A chain, read and checked, and how far one channel has got with it."""

    def __init__(self, memory: Bytes, chain: Chain, base: int) -> None:
        self._memory = memory
        self._used = 0
        offsets = _follow(memory, chain, base)
        table = _table(memory)[offsets // DESCRIPTOR_BYTES]
        self.control = table["control"]
        sizes = (self.control & _LENGTH).astype(np.int64)
        starts = table["address"].astype(np.int64) - base
        checks = (
            ("SGIntErr", (table["status"] & _COMPLETE) != 0),
            ("DMAIntErr", (sizes == 0) | ((sizes | starts) % WORD_BYTES != 0)),
            ("DMADecErr", (starts < 0) | (starts > memory.size - sizes)),
        )
        for name, wrong in checks:
            if wrong.any():
                at = int(np.argmax(wrong))
                what = f"{sizes[at]} bytes at {starts[at] + base:#x}"
                done = ", and is complete already" if name == "SGIntErr" else ""
                raise ChainError(f"{name}: the descriptor at {offsets[at] + base:#x} means {what}{done}")
        self._starts, self._ends = starts.tolist(), (starts + sizes).tolist()
        self._statuses = (offsets + _STATUS).tolist()

    @property
    def left(self) -> int:
        """Descriptors that have not been used."""
        return len(self._starts) - self._used

    def words(self, index: int) -> Words:
        """What a descriptor means."""
        return self._memory[self._starts[index] : self._ends[index]].view(np.uint64)

    def complete(self, index: int, moved: int, flags: int = 0) -> None:
        """Enter what was moved into a descriptor."""
        at = self._statuses[index]
        self._memory[at : at + 4].view(np.uint32)[0] = moved | flags | int(_COMPLETE)
        self._used = index + 1

    def receive(self, words: Words) -> None:
        """One packet into as many pieces as it takes."""
        done, start = 0, int(_START)
        while done < words.size:
            if not self.left:
                raise ChainError(f"a packet of {words.size} words does not fit the pieces left for it")
            place = self.words(self._used)
            part = words[done : done + place.size]
            place[: part.size] = part
            done += part.size
            self.complete(self._used, part.nbytes, start | (int(_END) if done == words.size else 0))
            start = 0


def _table(memory: Bytes) -> NDArray[np.void]:
    """The memory as descriptors."""
    return memory[: memory.size // DESCRIPTOR_BYTES * DESCRIPTOR_BYTES].view(_DESCRIPTOR)


def _follow(memory: Bytes, chain: Chain, base: int) -> NDArray[np.int64]:
    """Offsets of the descriptors of a chain, first to last."""
    table = _table(memory)
    found = np.arange(chain.first, chain.last + 1, DESCRIPTOR_BYTES) - base
    if found.size and found[0] >= 0 and chain.last - base <= memory.size - DESCRIPTOR_BYTES:
        inside = found[0] % DESCRIPTOR_BYTES == 0
        if inside and (table["next"][found[:-1] // DESCRIPTOR_BYTES] == found[1:] + base).all():
            return found
    followed: list[int] = []
    at = chain.first
    while True:
        offset = at - base
        if offset % DESCRIPTOR_BYTES or not 0 <= offset <= memory.size - DESCRIPTOR_BYTES:
            raise ChainError(f"SGDecErr: there is no descriptor at {at:#x}")
        if len(followed) > table.size:
            raise ChainError(f"the chain from {chain.first:#x} never reaches {chain.last:#x}")
        followed.append(offset)
        if at == chain.last:
            return np.array(followed, np.int64)
        at = int(table["next"][offset // DESCRIPTOR_BYTES])


def _describe(status: int) -> str:
    errors = [name for bit, name in _ERRORS.items() if status & bit]
    text = f"{status & int(_LENGTH)} bytes"
    if status & int(_END):
        text += " and a packet's end"
    if not status & int(_COMPLETE):
        text += ", unfinished"
    return ", ".join([text, *errors])
