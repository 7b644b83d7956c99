# SPDX-License-Identifier: Apache-2.0
"""Run a layer's call on a device: the one entry for everything above."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from e2train.devices.protocol import (
    OUTER_MODES,
    Counters,
    DeviceError,
    DeviceLostError,
    LayerCall,
    LayerResult,
    StreamDevice,
    TensorDevice,
    at_once,
    check_sums,
)
from e2train.packing import Reply, ReplyError, join_transfer, split_replies, with_nonces
from e2train.runtime.operands import Operands, Results
from e2train.runtime.plan import Block, plan

__all__ = ["ExecutionStopped", "execute", "stop_execution", "stoppable"]

_Outcome = tuple[list[Reply], Counters]

_TRANSFER_WORDS = 1 << 20  # 8 MB: what a DMA buffer holds with room to spare
_FRAMES_WORTH_A_TRANSFER = 2  # of an engine: each pays for its first load, which overlaps with nothing
_executing: ContextVar[bool] = ContextVar("executing", default=False)


class ExecutionStopped(KeyboardInterrupt):
    """A call that was given up, as a signal asked for it."""


def stop_execution() -> None:
    """End the call that this thread is in, if it is in one; for signal handlers.

    Raises: ExecutionStopped.
    """
    if _executing.get():
        _executing.set(False)
        raise ExecutionStopped


@contextmanager
def stoppable() -> Iterator[None]:
    """Let ``stop_execution`` end what this thread does in the block."""
    _executing.set(True)
    try:
        yield
    finally:
        _executing.set(False)


def execute(call: LayerCall, device: TensorDevice | StreamDevice) -> LayerResult:
    """Compute one call exactly.

    Raises: ExactnessError when a sum could overflow; DeviceError when the device fails.
    """
    check_sums(call.mode, call.shape, None if call.mode in OUTER_MODES else call.b, name=call.name)
    with stoppable():
        return device.compute(call) if isinstance(device, TensorDevice) else _in_frames(call, device)


def _in_frames(call: LayerCall, device: StreamDevice) -> LayerResult:
    layer_plan = plan(call, device.config)
    operands, results = Operands(layer_plan, call), Results(layer_plan)

    def run(group: Sequence[Block]) -> _Outcome:
        for failures in range(device.tries):
            try:
                replies, counted = _run_transfer(group, operands, device)
                return replies, replace(counted, retries=failures)
            except DeviceLostError as error:
                raise DeviceLostError(f"{call.label} on {device.name}: {error}") from error
            except (DeviceError, ReplyError) as error:
                last = error
        tried = f" (tried {device.tries} times)" if device.tries > 1 else ""
        raise DeviceError(f"{call.label} on {device.name}: {last}{tried}") from last

    engines = device.config.engines
    groups = list(_groups(layer_plan.blocks, device.parallel, engines))
    counts = []
    for group, (replies, counted) in zip(groups, _map(run, groups, device.parallel), strict=True):
        for block, reply in zip(group, replies, strict=True):
            results.add(block, reply)
        counts.append(counted)
    value, saturations = results.value()
    counters = replace(at_once(counts, engines), macs=call.shape.macs)
    return LayerResult(value=value, saturations=saturations, counters=counters)


def _run_transfer(group: Sequence[Block], operands: Operands, device: StreamDevice) -> _Outcome:
    headers = with_nonces([block.header for block in group])
    words = join_transfer([operands.frame(*pair) for pair in zip(group, headers, strict=True)])
    wanted = sum(header.reply_words for header in headers)
    transfer = device.transfer(words, reply_words=wanted)
    counters = Counters(
        cycles=transfer.cycles,
        words_in=words.size,
        words_out=transfer.reply.size,
        frames=len(group),
        remote_calls=transfer.remote_calls,
        device_s=transfer.device_s,
        moving_s=transfer.moving_s,
    )
    return split_replies(transfer.reply, headers), counters


def _groups(blocks: Sequence[Block], parallel: int, engines: int) -> Iterator[list[Block]]:
    """Split frames into transfers of about equal work, as many as may run at once."""
    count = min(parallel, max(len(blocks) // _FRAMES_WORTH_A_TRANSFER, min(engines, len(blocks))))
    total = sum(block.cycles for block in blocks)
    group: list[Block] = []
    words = done = closed = 0
    for block in blocks:
        size = max(block.header.frame_words, block.header.reply_words)
        if group and (words + size > _TRANSFER_WORDS or done * count >= total * (closed + 1)):
            closed = done * count // total
            yield group
            group, words = [], 0
        group.append(block)
        words += size
        done += block.cycles
    if group:
        yield group


def _map(
    run: Callable[[Sequence[Block]], _Outcome], groups: Sequence[Sequence[Block]], parallel: int
) -> Iterator[_Outcome]:
    """Outcomes in order, of at most ``parallel`` transfers at a time."""
    if parallel == 1 or len(groups) <= 1:
        yield from map(run, groups)
        return
    with ThreadPoolExecutor(min(parallel, len(groups))) as pool:
        yield from pool.map(run, groups)
