# SPDX-License-Identifier: Apache-2.0
"""Descriptors that a board keeps from one step to the next.

Tensors have fixed places, and what the host sends stands where it stood in the step before; so where steps
repeat, the descriptors of a round are the same bytes in each of them. From the second time on the board keeps
them, all but the first one of each channel: a table that the DMA follows, and a copy. The DMA marks each
descriptor as complete and refuses one that is marked; so the next chain of the engine begins with frames that
write the copy over the table.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from e2train.config import EngineConfig
from e2train.devices.chains.elements import plan_affine
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.transfer import ChainPieces
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq_board import Board, LostError
from e2train.devices.pynq_buffer import SMALLEST_BUFFER, Buffer
from e2train.devices.resident import Affine, DeviceTensor
from e2train.numerics.blocks import LANES
from e2train.packing.descriptors import DESCRIPTOR_BYTES, Chain, kept_descriptors

__all__ = [
    "MOST_KEPT_BYTES",
    "RESTORING_BYTES",
    "RESTORING_REPLY_BYTES",
    "KeptChains",
    "is_kept",
    "kept_bytes",
    "kept_rows",
    "restoring_frames",
    "spare_buffer",
]

RESTORING_BYTES = 32 << 10
"""At most of an engine's scratch memory, for the frames that make a table ready again."""
RESTORING_REPLY_BYTES = 8 << 10
"""At most of their replies, which stay on the board."""

MOST_KEPT_BYTES = 32 << 20
"""Of a board's memory, for all tables and copies."""

_MOST_FRAMES = 64  # of an engine's table
_SPARE_BYTES = 8 << 20  # of contiguous memory, left to others
_WORTH_ROWS = 16  # of an engine, on the average; to send fewer costs less than to restore them
_MOST_SEEN = 4096  # rounds
_UNUSED_ROUNDS = 2048  # after which one makes room: many more than a step has, which uses each of its own


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptRound:
    """Where the descriptors of a round stand, by engine and channel, and the frames that make them ready."""

    buffer: Buffer
    tables: Mapping[int, tuple[Chain | None, Chain | None]]
    restoring: Mapping[int, Sequence[PlannedFrame]]


def kept_rows(chain: ChainPieces) -> int:
    """Descriptors of both channels but their first ones."""
    return chain.mm2s.addresses.size + chain.s2mm.addresses.size - 2


def kept_bytes(chains: Iterable[ChainPieces]) -> int:
    """Of the buffer for the descriptors of a round, twice."""
    return max(SMALLEST_BUFFER, 2 * DESCRIPTOR_BYTES * sum(map(kept_rows, chains)))


def is_kept(chains: Iterable[ChainPieces], config: EngineConfig) -> bool:
    """Whether descriptors of a round are kept once it has come again."""
    rows = [kept_rows(chain) for chain in chains]
    most = _MOST_FRAMES * config.x_depth * LANES // (2 * DESCRIPTOR_BYTES)  # halves: frames share evenly
    return sum(rows) >= _WORTH_ROWS * len(rows) and max(rows) <= most


def restoring_frames(rows: int, config: EngineConfig, *, table: int, copy: int) -> tuple[PlannedFrame, ...]:
    """Frames that write so many descriptors over others. Both are addresses of the DMA."""
    if not rows:
        return ()
    width = DESCRIPTOR_BYTES // LANES
    source, place = (
        DeviceTensor(kind="int8", C=LANES, H=rows, W=width, offsets=np.array([at], np.int64))
        for at in (copy, table)
    )
    one = np.ones(LANES, np.int64)
    call = Affine(u=source, out=place, a=one, b=0 * one, d=0 * one, shift=0, name="descriptors")
    return tuple(plan_affine(call, replace(config, engines=1)))


class KeptChains:
    """The rounds whose descriptors one board keeps; those that have not come for long make room."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._kept: OrderedDict[bytes, KeptRound] = OrderedDict()  # the least recently used first
        self._last: dict[bytes, int] = {}  # use of each, by the round's number
        self._number = 0
        self._used: dict[int, list[KeptRound]] = {}  # whose tables of an engine are not ready
        self._stale: list[Buffer] = []
        self._full = False

    @property
    def nbytes(self) -> int:
        """Memory of the board that is taken."""
        return sum(buffer.memory.size for buffer in self._buffers())

    def find(self, board: Board, laid: Mapping[int, ChainPieces], *, firsts: int) -> KeptRound | None:
        """The ready descriptors of a round, which are sent where it comes for the second time.

        ``firsts`` is the address of the first descriptors.
        """
        while self._stale:
            board.free(self._stale.pop())
        if not board.is_remote or not is_kept(laid.values(), self._config):
            return None
        self._number += 1
        key = _key(laid, firsts)
        if key in self._kept:
            self._kept.move_to_end(key)
            self._last[key] = self._number
            found = self._kept[key]
            return None if any(found in used for used in self._used.values()) else found
        if key in self._seen:
            return self._keep(board, key, laid, firsts)
        self._seen[key] = None
        if len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        return None

    def restoring(self, engine: int) -> Sequence[PlannedFrame]:
        """Frames with which the next chain of an engine begins."""
        used = self._used.get(engine)
        return used[0].restoring[engine] if used else ()

    def use(self, kept: KeptRound) -> None:
        """A round is about to run; its tables are not ready any more."""
        for engine in kept.restoring:
            self._used.setdefault(engine, []).append(kept)

    def restored(self, engines: Iterable[int]) -> None:
        """The frames of ``restoring`` of these have run."""
        for engine in engines:
            del self._used[engine][0]

    def forget(self) -> None:
        """Rely on nothing that the board holds, as after a failure."""
        self._stale = self._buffers()
        self._seen.clear()
        self._kept.clear()
        self._last.clear()
        self._used.clear()
        self._full = False

    def take_buffers(self) -> list[Buffer]:
        """All buffers, for others to free."""
        self.forget()
        buffers, self._stale = self._stale, []
        return buffers

    def _buffers(self) -> list[Buffer]:
        return [*self._stale, *(kept.buffer for kept in self._kept.values())]

    def _keep(
        self, board: Board, key: bytes, laid: Mapping[int, ChainPieces], firsts: int
    ) -> KeptRound | None:
        """Write table and copy of a round, where there is room."""
        rows = {engine: kept_rows(chain) for engine, chain in laid.items()}
        half = DESCRIPTOR_BYTES * sum(rows.values())
        buffer = self._room(board, kept_bytes(laid.values()))
        if buffer is None:
            return None
        tables, restoring, at = {}, {}, buffer.address
        for engine, chain in laid.items():
            restoring[engine] = restoring_frames(rows[engine], self._config, table=at, copy=at + half)
            ways: list[Chain | None] = []
            for way, pieces in enumerate((chain.mm2s, chain.s2mm)):
                first = firsts + (2 * engine + way) * DESCRIPTOR_BYTES
                table = kept_descriptors(pieces, at, first=first)
                start = at - buffer.address
                buffer.memory[start : start + table.size] = table
                at += table.size
                ways.append(Chain(first=at - table.size, last=at - DESCRIPTOR_BYTES) if table.size else None)
            tables[engine] = ways[0], ways[1]
        buffer.memory[half : 2 * half] = buffer.memory[:half]
        self._kept[key] = KeptRound(buffer=buffer, tables=tables, restoring=restoring)
        self._last[key] = self._number
        board.flush(buffer, 2 * half)
        return self._kept[key]

    def _room(self, board: Board, nbytes: int) -> Buffer | None:
        """A buffer, in place of unused ones where they are too many."""
        if self._full:
            return None
        while self.nbytes + nbytes > MOST_KEPT_BYTES:
            oldest = next(iter(self._kept), None)
            if oldest is None or self._number - self._last[oldest] < _UNUSED_ROUNDS:
                return None
            unused = self._kept.pop(oldest)
            for used in self._used.values():
                used[:] = [each for each in used if each is not unused]
            board.free(unused.buffer)
        buffer = spare_buffer(board, nbytes)
        self._full = buffer is None
        return buffer


def spare_buffer(board: Board, nbytes: int) -> Buffer | None:
    """A buffer that leaves enough of the contiguous memory to others; None where there is none."""
    left = board.free_bytes()
    if left is None or left < nbytes + _SPARE_BYTES:
        return None
    try:
        return board.allocate(nbytes)
    except LostError:
        raise
    except DeviceError:  # there is none in one piece
        return None


def _key(laid: Mapping[int, ChainPieces], firsts: int) -> bytes:
    """Of all that descriptors tell."""
    hashed = hashlib.blake2b(firsts.to_bytes(8, "little"), digest_size=16)
    for engine, chain in laid.items():
        for pieces in (chain.mm2s, chain.s2mm):
            hashed.update(np.array([engine, pieces.addresses.size], np.int64).tobytes())
            for column in (pieces.addresses, pieces.nbytes, pieces.ends):
                hashed.update(column.tobytes())
    return hashed.digest()
