# SPDX-License-Identifier: Apache-2.0
"""A bench of the stand-in kernel, to try the common base of all benches on something simple."""

from __future__ import annotations

from typing import Any

import cocotb
import numpy as np
from stream_bench import PAUSES, StreamBench


@cocotb.test()
@cocotb.parametrize(idle=PAUSES, stall=PAUSES)
async def words_come_back_plus_one(dut: Any, idle: str, stall: str) -> None:
    bench = await StreamBench.start(dut, idle=idle, stall=stall)
    for count in (1, 2, 50):
        words = bench.rng.integers(1 << 32, 1 << 63, count, dtype=np.uint64)
        await bench.send(words)
        bench.expect(words + np.uint64(1))
    await bench.drained(within_cycles=2_000)


@cocotb.test()
async def reset_in_mid_packet_forgets_it(dut: Any) -> None:
    bench = await StreamBench.start(dut)
    await bench.send(np.array([0xDEAD] + [7] * 100, np.uint64))
    await bench.cycles(20)
    await bench.reset()
    await bench.send(np.array([7], np.uint64))
    bench.expect(np.array([8], np.uint64))
    await bench.drained(within_cycles=100)
