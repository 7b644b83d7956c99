# SPDX-License-Identifier: Apache-2.0
"""The training engine on its stream ports, word for word against the executable spec."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from e2train.config import load_config
from e2train.numerics.frames import decode_trailer, run_transfer
from e2train.numerics.frames.layout import TRAILER_WORDS
from engine_cases import MODES, Cases
from numpy.typing import NDArray
from stream_bench import PAUSES, StreamBench

Words = NDArray[np.uint64]
_MODES = [cocotb.Param(mode, name=mode) for mode in MODES]  # cocotb numbers long names


class EngineBench(StreamBench):
    """Sends transfers and expects what the spec answers to them."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut)
        self.config = load_config(str(cocotb.plusargs["config"]))
        self.transfers = Cases(self.rng, self.config)
        self._budget_cycles = 0

    async def ask(self, words: Words) -> None:
        """Queue one transfer, and its reply for ``answered``."""
        want = run_transfer(words, self.config)
        self._budget_cycles += 8 * (words.size + want.size) + 4 * _iterations(want) + 500
        await self.send(words)
        self.expect(want)

    async def answered(self) -> None:
        """Wait for the replies to all that was asked."""
        await self.drained(within_cycles=self._budget_cycles)
        self._budget_cycles = 0


@cocotb.test()
@cocotb.parametrize(mode=_MODES, idle=PAUSES, stall=PAUSES)
async def mode_equals_spec(dut: Any, mode: str, idle: str, stall: str) -> None:
    bench = await EngineBench.start(dut, idle=idle, stall=stall)
    for words in bench.transfers.corners(mode):
        await bench.ask(words)
    await bench.answered()
    for words in bench.transfers.random(mode, 8):
        await bench.ask(words)
    await bench.answered()


@cocotb.test()
@cocotb.parametrize(idle=PAUSES, stall=PAUSES)
async def transfer_of_many_frames_equals_spec(dut: Any, idle: str, stall: str) -> None:
    bench = await EngineBench.start(dut, idle=idle, stall=stall)
    await bench.ask(bench.transfers.identify())
    for _ in range(3):
        await bench.ask(bench.transfers.many_frames())
        await bench.ask(bench.transfers.held_reports())
    await bench.answered()


@cocotb.test()
@cocotb.parametrize(idle=PAUSES, stall=PAUSES)
async def faults_are_answered_and_leave_the_engine_idle(dut: Any, idle: str, stall: str) -> None:
    bench = await EngineBench.start(dut, idle=idle, stall=stall)
    for name, words in bench.transfers.faults():
        dut._log.info("fault: %s", name)
        await bench.ask(words)
        await bench.ask(bench.transfers.identify())
        await bench.answered()


@cocotb.test()
@cocotb.parametrize(mode=_MODES)
async def full_buffers_and_wrapping_addresses_equal_spec(dut: Any, mode: str) -> None:
    bench = await EngineBench.start(dut)
    await bench.ask(bench.transfers.full_buffers(mode))
    await bench.answered()


@cocotb.test()
@cocotb.parametrize(mode=_MODES)
async def reset_in_mid_frame_brings_the_engine_back(dut: Any, mode: str) -> None:
    bench = await EngineBench.start(dut)
    for after_cycles in (1, 7, 13, 30, 80, int(bench.rng.integers(100, 300))):
        for words in bench.transfers.random(mode, 3):
            await bench.send(words)
        await bench.cycles(after_cycles)
        await bench.reset()
        for words in bench.transfers.random(mode, 1):
            await bench.ask(words)
        await bench.answered()


def _iterations(reply: Words) -> int:
    """Iterations of the reply's last frame, from its trailer."""
    return decode_trailer(reply[-TRAILER_WORDS:]).iterations
