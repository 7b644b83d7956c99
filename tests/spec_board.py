# SPDX-License-Identifier: Apache-2.0
"""A PYNQ board in this machine's memory, whose engines are the spec, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from e2train.config import EngineConfig
from e2train.devices.deadline import Deadline
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq_board import Board
from e2train.devices.pynq_buffer import Buffer
from e2train.numerics.frames import decode_header, run_transfer
from e2train.numerics.frames.layout import HEADER_WORDS
from e2train.packing.descriptors import Chain

__all__ = ["SpecBoard", "SpecHolder"]

_MEMORY_BYTES = 48 << 20


class Array(np.ndarray):  # type: ignore[type-arg]
    """Bytes of a board that are here."""

    def flush(self) -> None: ...
    def invalidate(self) -> None: ...
    def freebuffer(self) -> None: ...


class Channel:
    """The words that descriptors mean, in order, each when it is its turn."""

    def __init__(self, memory: np.ndarray, chain: Chain) -> None:
        self.memory = memory
        self.runs: list[tuple[int, int]] = []
        at = chain.first
        while True:
            words = memory[at : at + 64].view(np.uint32)
            assert not words[7], f"the descriptor at {at:#x} is complete already"
            self.runs.append((int(words[2:4].view(np.uint64)[0]), int(words[6]) & (1 << 26) - 1))
            words[7] = 1 << 31
            if at == chain.last:
                break
            at = int(words[:2].view(np.uint64)[0])

    def parts(self, count: int) -> Iterator[np.ndarray]:
        """Places of so many words."""
        left = 8 * count
        while left:
            address, size = self.runs.pop(0)
            if size > left:
                self.runs.insert(0, (address + left, size - left))
            size = min(size, left)
            yield self.memory[address : address + size].view(np.uint64)
            left -= size


class Engine:
    """A DMA with an engine by the spec, report by report."""

    def __init__(self, memory: np.ndarray, config: EngineConfig) -> None:
        self.memory, self.config = memory, config
        self.damage: Callable[[np.ndarray], np.ndarray] = lambda words: words

    def run(self, sources: Channel, places: Channel) -> None:
        while True:
            frames, holds = [], True
            while holds:
                words = np.concatenate(list(sources.parts(HEADER_WORDS)))
                header = decode_header(words)
                rest = list(sources.parts(header.frame_words - HEADER_WORDS))
                holds = bool(header.holds)
                ends = np.uint64(header.more and not holds)
                words[[1, HEADER_WORDS - 1]] -= ends
                frames += [words, *rest]
            reply = self.damage(run_transfer(np.concatenate(frames), self.config))
            done = 0
            for place in places.parts(reply.size):
                place[:] = reply[done : done + place.size]
                done += place.size
            if not header.more:
                break
        assert not sources.runs
        assert not places.runs


class Engines:
    """All of a board, which run one after the other."""

    def __init__(self, memory: np.ndarray, config: EngineConfig) -> None:
        self.engines = [Engine(memory, config) for _ in range(config.engines)]
        self.count = config.engines
        self.memory = memory

    def ready(self, buffer: Buffer, chains: Mapping[int, tuple[Chain, Chain]]) -> Callable[[], None]:
        def start() -> None:
            for engine, ways in chains.items():
                self.engines[engine].run(*(Channel(self.memory, way) for way in ways))

        return start

    def wait(self, engines: Iterable[int]) -> None: ...
    def reset(self) -> None: ...


class SpecBoard(Board):
    """A board in this machine's memory."""

    def __init__(self, config: EngineConfig, *, remote: bool) -> None:
        self.calls = 0
        self._remote = remote
        self._deadline = Deadline(60.0)
        self.memory = np.zeros(_MEMORY_BYTES, np.uint8)
        self._dmas: Any = Engines(self.memory, config)
        self._buffers: list[Buffer] = []
        self._to_look = 0
        self._sending, self._receiving = None, {}
        self._next = 4096

    def free_bytes(self) -> int:
        return _MEMORY_BYTES - self._next

    def allocate(self, nbytes: int) -> Buffer:
        at = self._next
        self._next += -(-nbytes // 4096) * 4096
        if self._next > _MEMORY_BYTES:
            raise DeviceError("the memory is full")
        return Buffer(self.memory[at : at + nbytes].view(Array), at)

    def _answered(self, call: Callable[[], Any], *, calls: int = 0) -> Any:
        return call()


class SpecHolder:
    """What a resident device needs of the one that holds its board."""

    def __init__(self, config: EngineConfig, *, remote: bool) -> None:
        self.config = config
        self.board = SpecBoard(config, remote=remote)

    @contextmanager
    def attended(self) -> Iterator[SpecBoard]:
        yield self.board

    def close(self) -> None: ...
