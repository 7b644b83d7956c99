# SPDX-License-Identifier: Apache-2.0
"""What a resident training step takes on a board, counted without one: chains, calls, bytes, cycles."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import ConfigError, EngineConfig
from e2train.devices.chains.address_map import AddressMap, parts
from e2train.devices.chains.board import chain_bytes, overlaps
from e2train.devices.chains.device import SCRATCH_BYTES
from e2train.devices.chains.kept import MOST_KEPT_BYTES, is_kept, kept_bytes, kept_rows, restoring_frames
from e2train.devices.chains.packed import Unpacking, unpacking
from e2train.devices.chains.partial_sums import SUMS_AT, SUMS_BYTES, PartialSums
from e2train.devices.chains.rounds import Round, last_round, plan_rounds
from e2train.devices.chains.transfer import Area, lay_out, planned_cycles
from e2train.devices.protocol import Counters
from e2train.devices.pynq_board import PATIENCE, ROUND_CALLS, WRITE_CALLS
from e2train.devices.pynq_buffer import buffer_bytes, chains_at
from e2train.devices.pynq_engines import start_calls
from e2train.devices.resident import DeviceTensor, Operation, run_operation
from e2train.devices.resident_wire import Batch, Put, encode_batch, encode_outcomes
from e2train.overlay import board_names, load_board
from e2train.packing.descriptors import DESCRIPTOR_BYTES
from e2train.runtime.resident import BodyError, Kinds, Network
from e2train.runtime.resident.memory_map import MemoryMap
from e2train.runtime.resident.schedule import CountingDevice, count_step

__all__ = ["Link", "StepPlan", "check_memory", "most_memory_bytes", "plan_step"]

_OWN_BYTES = SCRATCH_BYTES + (2 << 20)  # of chains and their replies, beside the tensors
_LOW_MIB = 2 << 10  # most DDR that a board of the families here has in the first 4 GiB
_KEY = "0" * 16  # as long as any
_REPLIES, _TABLE, _COPY, _ARENA, _SUMS = (
    1 << 40,
    3 << 39,
    7 << 38,
    1 << 41,
    1 << 60,
)  # addresses, apart from each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a call to a board and a byte to or from it take."""

    call_s: float = 0.5e-3
    bytes_per_s: float = 110e6  # of gigabit Ethernet


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """One step of training."""

    samples: int
    engines: int
    rounds: int  # in which each engine runs a chain at most
    chains: int
    calls: int  # of pynq's client, where chains take the cycles planned
    calls_in_a_row: int  # those that start the chains of a round count once
    sent_bytes: int
    received_bytes: int
    requests: int  # through an agent
    request_bytes: int  # both ways
    cycles: int  # through an agent, of the engine that takes longest in each round: operations overlap
    client_cycles: int  # likewise with pynq's client, where those of several engines do not
    kept_cycles: int  # of these: for descriptors and sums that stay, and packed images
    memory_bytes: int

    def transfer_s(self, link: Link) -> float:
        """Seconds for calls and bytes of pynq's client."""
        return self.calls_in_a_row * link.call_s + (self.sent_bytes + self.received_bytes) / link.bytes_per_s

    def request_s(self, link: Link) -> float:
        """Seconds for requests to an agent and their bytes."""
        return self.requests * link.call_s + self.request_bytes / link.bytes_per_s

    def compute_s(self, clock_hz: float) -> float:
        """Seconds for the cycles, through an agent."""
        return self.cycles / clock_hz

    def client_s(self, clock_hz: float) -> float:
        """Seconds until pynq's client looks whether those are over."""
        return PATIENCE * self.client_cycles / clock_hz


def plan_step(
    network: Network,
    cfg: EngineConfig,
    *,
    samples: int,
    kinds: Kinds = Kinds(),  # noqa: B008  # frozen
    bits: tuple[int, int] = (0, 0),
    gates: bool = False,
) -> StepPlan:
    """Plan a step of ``samples`` images in which every block runs.

    ``bits`` are the high bits of x and gy that weight gradients are computed from (0: all); with ``gates``
    the host decides block by block.
    """
    device = _Planning(cfg)
    for _ in range(2):  # the second step finds the buffers of the first
        device.forget()
        count_step(network, device, kinds, samples=samples, bits=bits, gates=gates)
        device.finish()
    return StepPlan(
        samples=samples,
        engines=cfg.engines,
        rounds=device.rounds,
        chains=device.chains,
        calls=device.calls,
        calls_in_a_row=device.in_a_row,
        sent_bytes=device.sent,
        received_bytes=device.received,
        cycles=device.cycles,
        client_cycles=device.client_cycles,
        kept_cycles=device.kept_cycles,
        memory_bytes=device.reserved,
        requests=device.requests,
        request_bytes=device.request_bytes,
    )


def most_memory_bytes(config: str) -> int | None:
    """Most contiguous memory that tensors can have on a board of a configuration; None where there is none.

    It is half of the DDR in the first 4 GiB, as docs/board.md says under Memory, less what chains and replies
    take.

    >>> most_memory_bytes("pynq_z2")
    262144000
    """
    most = 0
    for name in board_names():
        with suppress(ConfigError):  # of another board, maybe one's own
            board = load_board(name)
            most = max(most, min(board.memory_mib, _LOW_MIB) << 19) if board.config.name == config else most
    return most - _OWN_BYTES if most else None


def check_memory(
    network: Network,
    board: str,
    *,
    samples: int,
    kinds: Kinds = Kinds(),  # noqa: B008  # frozen
) -> None:
    """Look whether a board can have the memory for a training step of ``samples`` images.

    Raises: BodyError with the batch that fits when it cannot.
    """
    most = most_memory_bytes(board)
    image_bytes = MemoryMap(network, kinds, samples=1, backward=True).nbytes  # every tensor has all images
    needed = samples * image_bytes
    if most is None or needed <= most:
        return
    fits = most // image_bytes
    remedy = f"use --batch {fits} or less" if fits else "the network does not fit at all"
    raise BodyError(
        f"a step of {samples:,} images takes {needed:,} bytes of contiguous memory, and {board} can have "
        f"{most:,} at most (Memory in docs/board.md); {remedy}"
    )


class _Planning(CountingDevice):
    """Lays out the chains of a board, and counts what they take."""

    def __init__(self, cfg: EngineConfig) -> None:
        self._cfg = cfg
        self._scratch = np.zeros(SCRATCH_BYTES, np.uint8)
        self._puts: list[Put] = []
        self._packed: list[Unpacking] = []
        self._places = AddressMap()
        self._places.put(SUMS_AT, SUMS_BYTES, _SUMS)
        self._sums = PartialSums(cfg, lambda: True)
        self._used: dict[int, int] = {}  # kept descriptors of the last round by engine
        self.reserved = 0
        self.forget()

    def forget(self) -> None:
        """Count from zero on."""
        self.rounds = self.chains = self.calls = self.in_a_row = 0
        self.sent = self.received = self._kept_bytes = 0
        self.cycles = self.client_cycles = self.kept_cycles = 0
        self.requests = self.request_bytes = 0

    def reserve(self, nbytes: int) -> None:
        if nbytes > self.reserved:
            self.reserved = nbytes
            self._places.put(0, nbytes, _ARENA)

    def write(self, tensor: DeviceTensor, values: NDArray[Any]) -> None:
        self._puts.append(Put(tensor=tensor, values=values))
        packed = unpacking(tensor)
        if packed is not None:
            self._packed.append(packed)
            tensor = packed.source
        for part in parts(tensor):
            first, nbytes = int(tensor.offsets[part.start]), (part.stop - part.start) * tensor.sample_bytes
            self._places.put(first, nbytes, _ARENA * (2 + self.calls))
            self.calls += WRITE_CALLS
            self.in_a_row += WRITE_CALLS
        self.sent += tensor.nbytes

    def run_batch(self, calls: Sequence[Operation]) -> list[tuple[Any, Counters]]:
        packed, self._packed = self._packed, []
        room = chain_bytes(self._cfg)
        through_client = plan_rounds(
            [*packed, *calls],
            self._cfg,
            room=room,
            sums=self._sums,
            interleave=overlaps(self._cfg, remote=True),
        )
        for chains in through_client.rounds:
            self._count(chains, packed=len(packed))
        for chains in plan_rounds(calls, self._cfg, room=room, interleave=True).rounds:
            self.cycles += max(
                planned_cycles([frame for _, frame in chain], [owner for owner, _ in chain])
                for chain in chains.values()
            )
        outcomes = [(run_operation(self, call), Counters()) for call in calls]
        batch = Batch(key=_KEY, number=self.requests, reserve=self.reserved, steps=(*self._puts, *calls))
        request = encode_batch(batch)
        reply = encode_outcomes(outcomes, request=request, memory_bytes=self.reserved)
        self._puts.clear()
        self.requests += 1
        self.request_bytes += len(request) + len(reply)
        return outcomes

    def finish(self) -> None:
        """Count the round that adds up the last partial sums."""
        if self._sums.is_due:
            self._count(last_round(self._sums))

    def _count(self, chains: Round, *, packed: int = 0) -> None:
        """Count a round as one that has come before; its first ``packed`` operations unpack images."""
        area = Area(memory=self._scratch, base=0, at=chains_at(self._cfg.engines))
        replies = Area(memory=self._scratch, base=_REPLIES, at=_REPLIES)
        laid = {
            engine: lay_out(
                [frame for _, frame in chain],
                area,
                replies,
                self._places.translate,
                owners=[owner for owner, _ in chain],
            )
            for engine, chain in chains.items()
        }
        self.received += buffer_bytes(replies.at - replies.base)
        rows = {engine: kept_rows(each) for engine, each in laid.items()}
        size = kept_bytes(laid.values())
        kept = is_kept(laid.values(), self._cfg) and self._kept_bytes + size <= MOST_KEPT_BYTES
        pieces = 0 if kept else sum(rows.values())
        cycles = {engine: planned_cycles(each.frames, each.owners) for engine, each in laid.items()}
        own = max(
            planned_cycles(
                each.frames,
                each.owners,
                lambda owner, frame: not self._sums.adds(frame) and (owner is None or owner >= packed),
            )
            for each in laid.values()
        )
        for engine in chains:
            if restoring := restoring_frames(self._used.pop(engine, 0), self._cfg, table=_TABLE, copy=_COPY):
                before = lay_out(restoring, area, replies, more=True)
                pieces += before.mm2s.addresses.size + before.s2mm.addresses.size
                cycles[engine] += planned_cycles(before.frames)
        if kept:
            self._kept_bytes += size
            self._used |= rows
        self.rounds += 1
        self.chains += len(chains)
        self.calls += ROUND_CALLS + start_calls(self._cfg.engines)
        self.in_a_row += ROUND_CALLS + 1
        self.sent += -(-area.at // DESCRIPTOR_BYTES) * DESCRIPTOR_BYTES + pieces * DESCRIPTOR_BYTES
        self.client_cycles += max(cycles.values())
        self.kept_cycles += max(cycles.values()) - own
