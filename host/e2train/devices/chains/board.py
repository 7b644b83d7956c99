# SPDX-License-Identifier: Apache-2.0
"""Resident operations on a PYNQ board: tensors in its contiguous memory, chains through its DMA."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.chains.address_map import AddressMap, parts
from e2train.devices.chains.batch import BARRIER_BYTES, join
from e2train.devices.chains.device import SCRATCH_BYTES, ChainResident, named
from e2train.devices.chains.jobs import plan_job
from e2train.devices.chains.plan import PlannedFrame
from e2train.devices.chains.transfer import Area, FrameReply, lay_out, read_replies, reply_bytes
from e2train.devices.memory import check_values
from e2train.devices.protocol import Counters, DeviceError, DeviceLostError, StepLostError
from e2train.devices.pynq import PynqDevice
from e2train.devices.pynq_board import CHAINS_AT, Board, Buffer
from e2train.devices.resident import DeviceTensor, Operation, operands, results
from e2train.numerics.blocks import LANES, block_count, from_blocks, to_blocks

__all__ = ["BATCH_BYTES", "BoardResident", "on_board"]

BATCH_BYTES = SCRATCH_BYTES - 2 * CHAINS_AT
"""What the frames of a chain may take, beside its first descriptors."""

_OWN_BYTES = SCRATCH_BYTES + (2 << 20)  # of chains and their replies, beside the tensors
_SMALLEST = 8 << 10  # of a buffer: smaller ones share pages, which PYNQ.remote flushes wrongly


def on_board(config: EngineConfig) -> EngineConfig:
    """The configuration as drivers and overlays have it: with one engine."""
    return replace(config, engines=1)


class BoardResident(ChainResident):
    """The engine of a board over tensors in its memory.

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
        self._places = AddressMap()
        super().__init__(on_board(device.config))

    @property
    def memory_bytes(self) -> int | None:  # type: ignore[override]
        """Contiguous memory for tensors, what they have already included."""
        with self._attended() as board:
            left = board.free_bytes()
        own = sum(buffer.memory.size for buffer in (self._arena, *self._written.values()) if buffer)
        return None if left is None else max(0, left + own - _OWN_BYTES)

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
        begin = time.monotonic()
        with self._attended() as board:
            calls = board.calls
            if board is not self._owner:  # it was connected again
                self._allocate(board, self._tensors)
            raw = to_blocks(values).reshape(tensor.N, -1).view(np.uint8)
            for part in parts(tensor):
                self._put(board, int(tensor.offsets[part.start]), raw[part].reshape(-1))
        elapsed_s = time.monotonic() - begin
        self._counters += Counters(remote_calls=board.calls - calls, device_s=elapsed_s, moving_s=elapsed_s)

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        """Values (N, C, H, W) from the memory; all buffers are fetched as wholes."""
        self._check(tensor)
        raw = np.empty((tensor.N, tensor.sample_bytes), np.uint8)
        with self._attended() as board:
            buffers = [buffer for buffer in (self._arena, *self._written.values()) if buffer]
            for buffer in buffers:
                board.invalidate(buffer)
            for sample, offset in enumerate(tensor.offsets.tolist()):
                parts = self._places.translate([(offset, tensor.sample_bytes)])
                raw[sample] = np.concatenate([_content(buffers, *part) for part in parts])
        blocks = raw.view(tensor.kind).reshape(tensor.N, block_count(tensor.C), tensor.H, tensor.W, LANES)
        return from_blocks(blocks, tensor.C)

    def run_batch(self, calls: Sequence[Operation]) -> list[tuple[Any, Counters]]:
        """Operations in order, as few chains; counters of a chain are those of its first operation."""
        jobs = []
        for call in calls:
            self._check(*operands(call), *results(call))
            jobs.append(plan_job(call, self.config))
        replies: list[list[FrameReply]] = [[] for _ in calls]
        counters = [Counters() for _ in calls]
        for chain in join(calls, jobs, self.config, room=BATCH_BYTES):
            own = [index for index, _ in chain if index is not None]
            names = list(dict.fromkeys(jobs[index].label for index in own))
            with named(" to ".join(dict.fromkeys((names[0], names[-1]))), self.name):
                found, counted = self._run_frames(0, [frame for _, frame in chain])
            counters[own[0]] += counted + self.take_counters()
            for (index, _), reply in zip(chain, found, strict=True):
                if index is not None:
                    replies[index].append(reply)
        outcomes = (job.collect(found) for job, found in zip(jobs, replies, strict=True))
        return list(zip(outcomes, counters, strict=True))

    def read_file(self, path: str) -> bytes | None:
        """A file of the board, such as a sensor's; None where there is none."""
        return self._device.read_file(path)

    def close(self) -> None:
        """Give the board and its memory back."""
        super().close()
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
            for buffer in (*self._written.values(), self._arena):
                if buffer is not None:
                    board.free(buffer)
        self._owner, self._arena, self._written, self._tensors = board, None, {}, 0
        nbytes = max(nbytes, BARRIER_BYTES)
        self._arena = board.allocate(nbytes)
        self._tensors = nbytes
        self._places = AddressMap()
        self._places.put(0, nbytes, self._arena.address)

    def _put(self, board: Board, first: int, raw: NDArray[np.uint8]) -> None:
        """Write bytes of the tensors' memory from ``first`` on, into a buffer that takes their place."""
        buffer = self._written.get(first)
        if buffer is None or buffer.memory.size < raw.size:
            self._written[first] = board.allocate(max(raw.size, _SMALLEST))
            if buffer is not None:  # all of it is written now
                board.free(buffer)
            buffer = self._written[first]
        buffer.memory[: raw.size] = raw
        board.flush(buffer, raw.size)
        self._places.put(first, raw.size, buffer.address)

    def _run_frames(self, slot: int, frames: Sequence[PlannedFrame]) -> tuple[list[FrameReply], Counters]:
        begin = time.monotonic()
        with self._attended() as board:
            if board is not self._owner:
                raise DeviceError("the board was connected again, and the tensors in its memory are lost")
            calls = board.calls
            send, receive = board.sending(SCRATCH_BYTES), board.receiving(reply_bytes(frames))
            area = Area(memory=send.memory, base=send.address, at=send.address + CHAINS_AT)
            replies = Area(memory=receive.memory, base=receive.address, at=receive.address)
            laid = lay_out(frames, area, replies, self._places.translate)
            used = area.at - area.base
            moving_s = board.run_chains((send, used), laid.mm2s, receive, laid.s2mm)
            found = read_replies(laid, receive.memory)
        return found, Counters(
            words_in=laid.mm2s.words,
            words_out=laid.s2mm.words,
            frames=len(frames),
            remote_calls=board.calls - calls,
            device_s=time.monotonic() - begin,
            moving_s=moving_s,
        )


def _content(buffers: Sequence[Buffer], address: int, nbytes: int) -> NDArray[np.uint8]:
    """Bytes at a physical address, from the buffer that holds them."""
    for buffer in buffers:
        start = address - buffer.address
        if 0 <= start < buffer.memory.size:
            return buffer.memory[start : start + nbytes]
    raise DeviceError(f"no buffer holds the address {address:#x}")
