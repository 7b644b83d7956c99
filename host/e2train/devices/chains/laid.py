# SPDX-License-Identifier: Apache-2.0
"""A round whose frames stand where the host sends from, and what is expected back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from e2train.devices.chains.replies import ExpectedReplies, FrameReplies
from e2train.devices.chains.rounds import Round
from e2train.devices.chains.transfer import (
    Area,
    ChainPieces,
    Places,
    lay_out,
    planned_cycles,
    reply_bytes,
)
from e2train.devices.pynq_buffer import Buffer

__all__ = ["LaidRound", "PlannedRound", "Runnable"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaidRound:
    """Chains by their engines."""

    chains: Mapping[int, ChainPieces]
    begin: int  # bytes of the buffer to send that are in use
    end: int
    cycles: Mapping[int, int]  # planned
    expected: ExpectedReplies

    @property
    def frames(self) -> int:
        """Of all chains."""
        return sum(len(chain.frames) for chain in self.chains.values())

    def late(self, receive: Buffer) -> set[int]:
        """Engines whose replies are not all there."""
        return self.expected.late(self._nonces, receive.memory)

    def read(self, receive: Buffer) -> list[FrameReplies]:
        """What the engines replied.

        Raises: DeviceError when one reports an error, or a reply is damaged or another frame's.
        """
        return self.expected.read(self._nonces, receive.memory)

    @property
    def _nonces(self) -> dict[int, int]:
        return {engine: chain.nonce for engine, chain in self.chains.items()}


class Runnable(Protocol):
    """A round that can be laid out."""

    @property
    def owners(self) -> Sequence[int]:
        """Numbers of its operations, in order."""

    @property
    def reply_bytes(self) -> int:
        """What comes back."""

    def write(self, send: Buffer, begin: int, receive: Buffer) -> LaidRound:
        """Lay it out in the buffer to send, from the byte ``begin`` on."""


class PlannedRound:
    """A round as it was planned."""

    def __init__(self, chains: Round, places: Places) -> None:
        self._chains = chains
        self._places = places

    @cached_property
    def owners(self) -> Sequence[int]:
        """Numbers of its operations, in order."""
        return sorted({owner for chain in self._chains.values() for owner, _ in chain if owner is not None})

    @cached_property
    def reply_bytes(self) -> int:
        """What comes back."""
        return sum(
            reply_bytes([frame for _, frame in chain], [owner for owner, _ in chain])
            for chain in self._chains.values()
        )

    def write(self, send: Buffer, begin: int, receive: Buffer) -> LaidRound:
        """Lay it out in the buffer to send, from the byte ``begin`` on."""
        area = Area(memory=send.memory, base=send.address, at=send.address + begin)
        replies = Area(memory=receive.memory, base=receive.address, at=receive.address)
        chains = {
            engine: lay_out(
                [frame for _, frame in chain],
                area,
                replies,
                self._places,
                owners=[owner for owner, _ in chain],
            )
            for engine, chain in self._chains.items()
        }
        return LaidRound(
            chains=chains,
            begin=begin,
            end=area.at - area.base,
            cycles={engine: planned_cycles(chain.frames, chain.owners) for engine, chain in chains.items()},
            expected=ExpectedReplies(chains),
        )
