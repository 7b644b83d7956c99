# SPDX-License-Identifier: Apache-2.0
"""A board's AXI DMAs in scatter-gather mode (PG021), behind reads and writes of registers that may be remote.

The last descriptor of a chain points to its first one. So where all chains begin at the same address, a
channel is told of the next one by a single write, that of the tail.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from e2train.devices.deadline import Deadline
from e2train.devices.protocol import DeviceError
from e2train.packing.descriptors import Chain

__all__ = ["ERRORS", "NO_EFFECT", "ChainDma", "call_at_once"]

# Each direction's registers from its own base on.
_MM2S, _S2MM = 0x00, 0x30
_WAYS = {_MM2S: "sending", _S2MM: "receiving"}
_CONTROL, _STATUS, _CURRENT, _TAIL = 0x00, 0x04, 0x08, 0x10
NO_EFFECT = _STATUS
"""Register in which zeros change nothing: its bits are cleared by ones."""
_RUN, _RESET = 1 << 0, 1 << 2
_HALTED, _IDLE = 1 << 0, 1 << 1
ERRORS = {
    1 << 4: "DMAIntErr (a length of 0, or a packet longer than its buffer)",
    1 << 5: "DMASlvErr (the memory refused an access)",
    1 << 6: "DMADecErr (no memory at an address)",
    1 << 8: "SGIntErr (a descriptor that is complete already)",
    1 << 9: "SGSlvErr (the memory refused a descriptor)",
    1 << 10: "SGDecErr (no memory at a descriptor's address)",
}
_RESET_S = 1.0


class ChainDma:
    """Both channels of a DMA, which run one chain each at a time."""

    def __init__(
        self,
        read: Callable[[int], int],
        write: Callable[[int, int], None],
        deadline: Deadline,
        *,
        name: str = "the DMA",
    ) -> None:
        """``read`` and ``write`` take a register's offset."""
        self._read, self._write = read, write
        self._name = name
        self._deadline = deadline
        self._firsts: dict[int, int] = {}  # where the chain of a running channel begins

    def reset(self) -> None:
        """Reset the DMA and the engine.

        Raises: DeviceError when the reset does not end.
        """
        self._firsts.clear()
        self._write(_MM2S + _CONTROL, _RESET)
        self._await(_MM2S + _CONTROL, _RESET, 0)

    def aim(self, mm2s: Chain, s2mm: Chain) -> list[tuple[int, int]]:
        """Make both channels ready for a chain each: these writes of registers, in any order, start them."""
        return [self._aimed(_S2MM, s2mm), self._aimed(_MM2S, mm2s)]

    def write(self, register: int, value: int) -> None:
        """Write a register."""
        self._write(register, value)

    def wait(self) -> None:
        """Wait until all has been received.

        Raises: DeviceError for an error of the DMA, or when the time of the operation is over.
        """
        pause_s = 0.0
        while not self._state(_S2MM) & _IDLE:
            self._state(_MM2S)
            if self._deadline.left_s() <= 0:
                raise DeviceError(f"no whole reply within {self._deadline.whole_s:g} s")
            time.sleep(pause_s)
            pause_s = min(0.02, pause_s + 0.0005)
        self._state(_MM2S)  # a word that could not be read may have gone to the engine all the same

    def _aimed(self, way: int, chain: Chain) -> tuple[int, int]:
        if self._firsts.get(way) != chain.first:
            if way in self._firsts:
                self._write(way + _CONTROL, 0)
                self._await(way + _STATUS, _HALTED, _HALTED)
            self._write(way + _CURRENT, chain.first)
            self._write(way + _CONTROL, _RUN)
            self._firsts[way] = chain.first
        return way + _TAIL, chain.last

    def _state(self, way: int) -> int:
        state = self._read(way + _STATUS)
        for bit, meaning in ERRORS.items():
            if state & bit:
                raise DeviceError(f"{self._name}'s {_WAYS[way]} channel reports {meaning}")
        if state & _HALTED:
            raise DeviceError(f"{self._name}'s {_WAYS[way]} channel has stopped")
        return state

    def _await(self, register: int, bit: int, value: int) -> None:
        end_s = time.monotonic() + _RESET_S
        while self._read(register) & bit != value:
            if time.monotonic() > end_s:
                raise DeviceError(f"{self._name} does not come out of its reset; program the board again")


def call_at_once(calls: Sequence[Callable[[], None]], deadline: Deadline) -> None:
    """Make calls that may each take a while, all at the same time.

    Raises: the first error of one of them.
    """
    errors: list[BaseException] = []
    left_s = deadline.left_s()

    def make(call: Callable[[], None]) -> None:
        try:
            with deadline.running(left_s):
                call()
        except BaseException as error:
            errors.append(error)

    # Of a silent board a call may take as long as the deadline: the end of the program does not wait for it.
    threads = [threading.Thread(target=make, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
