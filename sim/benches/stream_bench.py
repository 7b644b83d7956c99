# SPDX-License-Identifier: Apache-2.0
"""What every bench of a kernel shares: clock, reset, a pausing source and sink, expectations, a deadline."""

from __future__ import annotations

import json
import logging
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import current_task
from cocotb.triggers import ClockCycles, SimTimeoutError, with_timeout
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource
from numpy.typing import NDArray

__all__ = ["PAUSES", "StreamBench"]

Words = NDArray[np.uint64]

PAUSES = ("never", "sometimes", "always")

_PERIOD_NS = 10
_RESET_CYCLES = 8
_QUIET_CYCLES = 32  # after the last reply nothing more may come for so long
_ALWAYS = 4  # "always" paused lets one beat through in so many cycles, or nothing would end
_DEPRECATED = (".*task.kill.*", ".*Immediate.*", ".*value_change.*")  # cocotbext-axi 0.1.28 under cocotb 2


class StreamBench:
    """A kernel between a source on ``s_axis`` and a sink on ``m_axis``, both of 64-bit words."""

    @classmethod
    async def start(cls, dut: Any, *, idle: str = "never", stall: str = "never") -> StreamBench:
        """Clock and reset the kernel; ``idle`` is how often the source pauses, ``stall`` the sink."""
        for message in _DEPRECATED:
            warnings.filterwarnings("ignore", message=message, category=DeprecationWarning)
        bench = cls(dut)
        dut.rst_n.value = 0
        Clock(dut.clk, _PERIOD_NS, unit="ns").start()
        await bench.reset()
        bench.source.set_pause_generator(_pauses(idle, bench._draw()))
        bench.sink.set_pause_generator(_pauses(stall, bench._draw()))
        return bench

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.name = current_task().get_name().removeprefix("Test ")
        self.rng = np.random.default_rng(cocotb.RANDOM_SEED)  # per test: cocotb mixes in the test's name
        dut._log.info("%s: seed %d", self.name, cocotb.RANDOM_SEED)
        self.cases = 0
        self._expected: list[Words] = []
        self._sent: list[Words] = []
        options: dict[str, Any] = {"reset": dut.rst_n, "reset_active_level": False, "byte_lanes": 1}
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, **options)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, **options)
        for end in (self.source, self.sink):
            end.log.setLevel(logging.ERROR)  # it prints every word that passes

    async def reset(self) -> None:
        """Reset the kernel; what was under way, or expected, is forgotten."""
        self.dut.rst_n.value = 0
        self.source.clear()
        await ClockCycles(self.dut.clk, _RESET_CYCLES)
        self.sink.clear()
        self._expected.clear()
        self._sent.clear()
        self.dut.rst_n.value = 1

    async def send(self, words: Words) -> None:
        """Queue one packet, TLAST on its last word."""
        self._sent.append(words)
        await self.source.send(AxiStreamFrame(words.tolist()))

    def expect(self, words: Words) -> None:
        """The next packet to come back."""
        self._expected.append(words)

    async def cycles(self, count: int) -> None:
        """Let time pass."""
        await ClockCycles(self.dut.clk, count)

    async def drained(self, *, within_cycles: int) -> None:
        """Check all replies, to the bit, and that nothing follows them."""
        for turn, want in enumerate(self._expected):
            try:
                frame = await with_timeout(self.sink.recv(compact=False), within_cycles * _PERIOD_NS, "ns")
            except SimTimeoutError:
                raise AssertionError(
                    f"reply {turn + 1} of {len(self._expected)} is not there within {within_cycles} cycles"
                    + self._keep(turn, np.zeros(0, np.uint64), want)
                ) from None
            self._compare(turn, np.array(frame.tdata, np.uint64), want)
            self.cases += 1
        await ClockCycles(self.dut.clk, _QUIET_CYCLES)
        assert self.sink.empty(), "a packet came that nobody expected"
        assert not self.sink.active, "words came that nobody expected"
        self._expected.clear()
        self._sent.clear()
        self._record()

    def _compare(self, turn: int, got: Words, want: Words) -> None:
        if np.array_equal(got, want):
            return
        if len(got) != len(want):
            what = f"{len(got)} words, want {len(want)}"
        else:
            wrong = np.flatnonzero(got != want)
            at = int(wrong[0])
            what = f"{len(wrong)} of {len(want)} words differ, first at {at}: "
            what += f"got {got[at]:#x}, want {want[at]:#x}"
        raise AssertionError(
            f"reply {turn + 1} of {len(self._expected)}: {what}{self._keep(turn, got, want)}"
        )

    def _keep(self, turn: int, got: Words, want: Words) -> str:
        folder = cocotb.plusargs.get("crashers")
        if not folder:
            return ""
        path = Path(str(folder)) / f"{self.name.replace('/', '-')}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, sent=self._sent[turn], got=got, want=want)
        return f"; kept in {path}"

    def _record(self) -> None:
        path = cocotb.plusargs.get("record")
        if path:
            with Path(str(path)).open("a") as record:
                record.write(json.dumps({"test": self.name, "cases": self.cases}) + "\n")

    def _draw(self) -> random.Random:
        return random.Random(int(self.rng.integers(1 << 32)))


def _pauses(pattern: str, rng: random.Random) -> Iterator[bool] | None:
    """A generator of pauses, cycle by cycle: runs of random length, or all but one cycle in a few."""
    if pattern == "never":
        return None
    return _sometimes(rng) if pattern == "sometimes" else _always()


def _sometimes(rng: random.Random) -> Iterator[bool]:
    while True:
        paused = rng.random() < 0.4
        for _ in range(rng.choice((1, 1, 2, 3, 7))):
            yield paused


def _always() -> Iterator[bool]:
    while True:
        for turn in range(_ALWAYS):
            yield turn != 0
