# SPDX-License-Identifier: Apache-2.0
"""Resident operations on a PYNQ board: tensors in its contiguous memory, chains through its DMAs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.chains.address_map import AddressMap, parts
from e2train.devices.chains.batch import BARRIER_BYTES
from e2train.devices.chains.device import SCRATCH_BYTES, named
from e2train.devices.chains.kept import RESTORING_BYTES, RESTORING_REPLY_BYTES, KeptChains, spare_buffer
from e2train.devices.chains.known import KnownBatches, Recording, structure
from e2train.devices.chains.laid import LaidRound, PlannedRound, Runnable
from e2train.devices.chains.operands import Work, operands, results
from e2train.devices.chains.packed import Unpacking, pack, unpacking
from e2train.devices.chains.partial_sums import SUMS_AT, SUMS_BYTES, PartialSums, SumsLater
from e2train.devices.chains.replies import FrameReplies
from e2train.devices.chains.rounds import last_round, plan_rounds
from e2train.devices.chains.transfer import Area, lay_out, planned_cycles
from e2train.devices.memory import check_access, check_values
from e2train.devices.one_by_one import OneByOne
from e2train.devices.protocol import Closing, Counters, DeviceError, DeviceLostError, StepLostError
from e2train.devices.pynq import PynqDevice
from e2train.devices.pynq_board import Board, LostError
from e2train.devices.pynq_buffer import SMALLEST_BUFFER, Buffer, chains_at
from e2train.devices.resident import DeviceTensor, Operation
from e2train.numerics.blocks import LANES, block_count, from_blocks, to_blocks
from e2train.packing.descriptors import DESCRIPTOR_BYTES

__all__ = ["BoardResident", "chain_bytes", "overlaps"]

_SUMS_LABEL = "sums of weight gradients"
_KNOWN_BYTES = {True: 256 << 20, False: 64 << 20}  # of a PC's and of a board's memory, for known batches
_OWN_BYTES = SCRATCH_BYTES + (2 << 20)  # of chains and their replies, beside the tensors


def chain_bytes(config: EngineConfig) -> int:
    """What the frames of an engine's chain may take: all chains of a round go in one buffer.

    >>> from e2train.config import load_config
    >>> [chain_bytes(load_config(name)) >> 10 for name in ("pynq_z2", "zcu104")]
    [4063, 991]
    """
    return (SCRATCH_BYTES - 2 * chains_at(config.engines)) // config.engines - RESTORING_BYTES


def overlaps(config: EngineConfig, *, remote: bool) -> bool:
    """Whether operations overlap: not where the reports that this takes cost a link as much as it saves."""
    return not remote or config.engines == 1


class BoardResident(OneByOne, Closing):
    """The engines of a board over tensors in its memory.

    One large buffer holds what the board alone reads and writes. What the host writes has buffers of its own:
    pynq's client moves whole buffers.

    Where an operation fails the board is made ready again, but a step that was under way has to start again.
    """

    name = "pynq"

    def __init__(self, device: PynqDevice) -> None:
        """Takes over the device, which is closed with this one."""
        self._device = device
        self._owner: Board | None = None  # in whose memory the tensors are
        self._arena: Buffer | None = None
        self._written: dict[int, Buffer] = {}  # by the first byte
        self._packed: list[Unpacking] = []  # images that no engine has unpacked yet
        self._places = AddressMap()
        self._summing: Buffer | None = None  # where partial sums stay
        self._has_room_for_sums = True
        self._sums = PartialSums(device.config, self._reserve_sums)
        self._tensors = 0  # bytes for them
        self._counters = Counters()
        self._closed = False
        self.config = device.config
        self._kept = KeptChains(device.config)
        self._known = KnownBatches(0)  # until there is a board
        self._interleave = False

    @property
    def memory_bytes(self) -> int | None:
        """Contiguous memory for tensors, what they have already included."""
        with self._attended() as board:
            left = board.free_bytes()
        buffers = self._arena, self._summing, *self._written.values()
        own = sum(buffer.memory.size for buffer in buffers if buffer)
        return None if left is None else max(0, left + own + self._kept.nbytes - _OWN_BYTES)

    def reserve(self, nbytes: int) -> None:
        """Have at least so much memory; where it has to grow, what was in it is lost.

        Raises: DeviceError when the board has no such memory.
        """
        self._check()
        if nbytes > self._tensors:
            with self._device.attended() as board:
                self._allocate(board, nbytes)

    def write(self, tensor: DeviceTensor, values: NDArray[Any]) -> None:
        """Put values (N, C, H, W) of the tensor's kind into the memory.

        Raises: ShapeError when they are not of its shape and kind.
        """
        check_values(tensor, values)
        self._check(tensor)
        if any(_meet(each.destination, tensor) and not _covers(tensor, each) for each in self._packed):
            self.run_batch([])
        begin = time.monotonic()
        with self._attended() as board:
            calls = board.calls
            if board is not self._owner:  # it was connected again
                self._allocate(board, self._tensors)
            self._packed = [each for each in self._packed if not _meet(each.destination, tensor)]
            packed = unpacking(tensor) if board.is_remote else None
            if packed is not None:
                tensor, values = packed.source, pack(values, packed.count)
            raw = to_blocks(values).reshape(tensor.N, -1).view(np.uint8)
            for part in parts(tensor):
                self._put(board, int(tensor.offsets[part.start]), raw[part].reshape(-1))
            if packed is not None:
                self._packed.append(packed)
        elapsed_s = time.monotonic() - begin
        self._counters += Counters(remote_calls=board.calls - calls, device_s=elapsed_s, moving_s=elapsed_s)

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        """Values (N, C, H, W) from the memory; all buffers are fetched as wholes."""
        self._check(tensor)
        if self._packed:
            self.run_batch([])
        raw = np.empty((tensor.N, tensor.sample_bytes), np.uint8)
        with self._attended() as board:
            buffers = [buffer for buffer in (self._arena, *self._written.values()) if buffer]
            for buffer in buffers:
                board.invalidate(buffer)
            for sample, offset in enumerate(tensor.offsets.tolist()):
                run = np.array([offset]), np.array([tensor.sample_bytes])
                cut = zip(*(column.tolist() for column in self._places.translate(*run)), strict=True)
                raw[sample] = np.concatenate([_content(buffers, *part) for part in cut])
        blocks = raw.view(tensor.kind).reshape(tensor.N, block_count(tensor.C), tensor.H, tensor.W, LANES)
        return from_blocks(blocks, tensor.C)

    def run_batch(self, calls: Sequence[Operation]) -> list[tuple[Any, Counters]]:
        """Operations in order, in as few rounds; counters of a round are those of its first operation.

        A weight gradient may come as ``SumsLater``.
        """
        for call in calls:
            self._check(*operands(call), *results(call))
        packed = self._packed
        work: list[Work] = [*packed, *calls]
        labels, rounds, collect, recording = self._begin(work)
        replies: list[list[FrameReplies]] = [[] for _ in work]
        counters = [Counters() for _ in work]
        for each in rounds:
            own = each.owners
            ends = [labels[index] for index in (*own[:1], *own[-1:])] or [_SUMS_LABEL]
            with named(" to ".join(dict.fromkeys(ends)), self.name):
                found, counted = self._run_round(each, recording)
            counted += self.take_counters()
            asked = [index for index in own if index >= len(packed)]
            if asked:
                counters[asked[0]] += counted
            else:  # of images alone
                self._counters += counted
            for reply in found:
                if reply.owner is None:
                    self._sums.take(reply)
                else:
                    replies[reply.owner].append(reply)
        self._packed = []
        if recording:
            recording.keep(self._known)
        outcomes = (gather(found) for gather, found in zip(collect, replies, strict=True))
        return list(zip(outcomes, counters, strict=True))[len(packed) :]

    def _begin(
        self, work: Sequence[Work]
    ) -> tuple[Sequence[str], Iterable[Runnable], Sequence[Callable[..., Any]], Recording | None]:
        """Labels of operations, their rounds, what collects outcomes, and what takes the rounds down."""
        key = structure(work, self._sums.state, self._places.state)
        known = self._known.find(key)
        if known is not None:
            rounds, collect = known.again(work, self.config, self._sums, self._finish_sums)
            return known.labels, rounds, collect, None
        planned = plan_rounds(
            work,
            self.config,
            room=chain_bytes(self.config),
            sums=self._sums,
            finish=self._finish_sums,
            interleave=self._interleave,
        )
        keep = self._known.is_worth_keeping(key)
        recording = Recording(key, work, planned, self._sums, self.config) if keep else None
        fresh = (PlannedRound(chains, self._places.translate) for chains in planned.rounds)
        return planned.labels, fresh, planned.collect, recording

    def compute_one(self, call: Operation) -> Any:
        """The outcome of an operation."""
        ((outcome, counters),) = self.run_batch([call])
        self._counters += counters
        return outcome.get() if isinstance(outcome, SumsLater) else outcome

    def read_file(self, path: str) -> bytes | None:
        """A file of the board, such as a sensor's; None where there is none."""
        return self._device.read_file(path)

    def close(self) -> None:
        """Give the board and its memory back."""
        self._closed = True
        self._device.close()

    @contextmanager
    def _attended(self) -> Iterator[Board]:
        """The board, for one operation of a step.

        Raises: StepLostError where the step has to start again; DeviceLostError when the board is gone.
        """
        try:
            with self._device.attended() as board:
                yield board
        except DeviceLostError:
            raise
        except DeviceError as error:
            self._counters += Counters(retries=1)
            raise StepLostError(str(error)) from error

    def _allocate(self, board: Board, nbytes: int) -> None:
        """Have memory for tensors, in place of what there was."""
        if board is self._owner:
            for buffer in (*self._written.values(), *self._kept.take_buffers(), self._summing, self._arena):
                if buffer is not None:
                    board.free(buffer)
        self._kept = KeptChains(self.config)
        self._summing, self._has_room_for_sums = None, True
        self._sums = PartialSums(self.config, self._reserve_sums)
        self._owner, self._arena, self._written, self._tensors = board, None, {}, 0
        self._packed = []
        self._known = KnownBatches(_KNOWN_BYTES[board.is_remote])
        self._interleave = overlaps(self.config, remote=board.is_remote)
        nbytes = -(-max(nbytes, BARRIER_BYTES) // DESCRIPTOR_BYTES) * DESCRIPTOR_BYTES
        self._arena = board.allocate(nbytes + RESTORING_REPLY_BYTES)
        self._tensors = nbytes
        self._places = AddressMap()
        self._places.put(0, nbytes, self._arena.address)

    def _put(self, board: Board, first: int, raw: NDArray[np.uint8]) -> None:
        """Write bytes of the tensors' memory from ``first`` on, into a buffer that takes their place."""
        buffer = self._written.get(first)
        if buffer is None or buffer.memory.size < raw.size:
            size = max(raw.size, SMALLEST_BUFFER)
            self._written[first] = self._making_room(board, lambda: board.allocate(size))
            if buffer is not None:  # all of it is written now
                board.free(buffer)
                self._known.forget()
            buffer = self._written[first]
        buffer.memory[: raw.size] = raw
        board.flush(buffer, raw.size)
        self._places.put(first, raw.size, buffer.address)

    def _making_room(self, board: Board, allocate: Callable[[], Buffer]) -> Buffer:
        """A buffer, if need be in place of kept descriptors."""
        try:
            return allocate()
        except LostError:
            raise
        except DeviceError:
            kept = self._kept.take_buffers()
            if not kept:
                raise
            for buffer in kept:
                board.free(buffer)
            return allocate()

    def _reserve_sums(self) -> bool:
        """Have memory for partial sums, where the host is not the board itself and there is enough."""
        if self._summing is None and self._has_room_for_sums:
            with self._attended() as board:
                spares = board is self._owner and board.is_remote
                self._summing = spare_buffer(board, SUMS_BYTES) if spares else None
            self._has_room_for_sums = self._summing is not None
            if self._summing is not None:
                self._places.put(SUMS_AT, SUMS_BYTES, self._summing.address)
        return self._summing is not None

    def _finish_sums(self) -> None:
        """Fetch the sums of what is due."""
        chains = last_round(self._sums)
        if not chains:
            return
        with named(_SUMS_LABEL, self.name):
            found, counted = self._run_round(PlannedRound(chains, self._places.translate))
        self._counters += counted
        for reply in found:
            self._sums.take(reply)

    def _run_round(
        self, wanted: Runnable, recording: Recording | None = None
    ) -> tuple[list[FrameReplies], Counters]:
        """Let engines run a chain each, and give what they replied."""
        begin = time.monotonic()
        with self._attended() as board:
            if board is not self._owner:
                raise DeviceError("the board was connected again, and the tensors in its memory are lost")
            calls = board.calls
            try:
                laid, receive, moving_s = self._move_round(board, wanted)
                found = laid.read(receive)
            except BaseException:  # Ctrl-C too leaves a chain under way
                self._kept.forget()
                self._sums.forget()
                self._known.forget()
                raise
            if recording:
                recording.take(laid, wanted, send=board.sending(SCRATCH_BYTES), receive=receive)
        return found, Counters(
            words_in=sum(each.mm2s.words for each in laid.chains.values()),
            words_out=sum(each.s2mm.words for each in laid.chains.values()),
            frames=laid.frames,
            remote_calls=board.calls - calls,
            device_s=time.monotonic() - begin,
            moving_s=moving_s,
        )

    def _move_round(self, board: Board, wanted: Runnable) -> tuple[LaidRound, Buffer, float]:
        """Send and start the chains of a round, each behind frames that restore kept descriptors; await them.

        Gives the chains, the buffer with what came back, and the seconds that moving bytes took.
        """
        assert self._arena is not None
        send = board.sending(SCRATCH_BYTES)
        receive = self._making_room(board, lambda: board.receiving(wanted.reply_bytes))
        laid = wanted.write(send, chains_at(board.engines), receive)
        kept = self._kept.find(board, laid.chains, firsts=send.address)
        pieces = {engine: (each.mm2s, each.s2mm) for engine, each in laid.chains.items()}
        cycles = dict(laid.cycles)
        area = Area(memory=send.memory, base=send.address, at=send.address + laid.end)
        restoring = {engine: frames for engine in pieces if (frames := self._kept.restoring(engine))}
        for engine, frames in restoring.items():
            nowhere = Area(memory=receive.memory, base=0, at=self._arena.address + self._tensors)
            before = lay_out(frames, area, nowhere, more=True)
            own = laid.chains[engine]
            pieces[engine] = before.mm2s.then(own.mm2s), before.s2mm.then(own.s2mm)
            cycles[engine] += planned_cycles(before.frames)
        if kept:
            self._kept.use(kept)
        moving_s = board.run_chains(
            (send, area.at - area.base),
            pieces,
            receive,
            kept=kept.tables if kept else None,
            planned_s={engine: 1e-9 * self.config.period_ns * count for engine, count in cycles.items()},
            late=lambda: laid.late(receive),
        )
        self._kept.restored(restoring)
        return laid, receive, moving_s

    def _check(self, *tensors: DeviceTensor | None) -> None:
        if self._closed:
            raise DeviceError(f"device {self.name} is closed")
        check_access(self._tensors, *tensors)


def _covers(tensor: DeviceTensor, packed: Unpacking) -> bool:
    """Whether a tensor has all samples that would be unpacked."""
    alike = tensor.sample_bytes == packed.destination.sample_bytes
    return alike and set(packed.destination.offsets.tolist()) <= set(tensor.offsets.tolist())


def _meet(one: DeviceTensor, other: DeviceTensor) -> bool:
    """Whether tensors may share bytes."""
    return bool(one.N and other.N) and one.span.first < other.span.end and other.span.first < one.span.end


def _content(buffers: Sequence[Buffer], address: int, nbytes: int) -> NDArray[np.uint8]:
    """Bytes at a physical address, from the buffer that holds them."""
    for buffer in buffers:
        start = address - buffer.address
        if 0 <= start < buffer.memory.size:
            return buffer.memory[start : start + nbytes]
    raise DeviceError(f"no buffer holds the address {address:#x}")
