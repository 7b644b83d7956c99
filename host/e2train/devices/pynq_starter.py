# SPDX-License-Identifier: Apache-2.0
"""A board's AXI CDMA in scatter-gather mode (PG034), which writes to the registers of the DMAs.

So several engines are started by a single remote call. As with the DMAs, the last descriptor points to the
first one, and a chain that begins where the last one did is started by its tail alone. Each descriptor
carries the word that it moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from e2train.devices.deadline import Deadline
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq_dma import ERRORS
from e2train.packing.descriptors import DESCRIPTOR_BYTES, Chain

__all__ = ["Starter", "write_starts"]

_CONTROL, _STATUS, _CURRENT, _TAIL = 0x00, 0x04, 0x08, 0x10
_RESET, _SCATTER_GATHER = 1 << 2, 1 << 3
_IDLE = 1 << 1
_RESET_S = 1.0
_PAUSE_S = 0.001
_WORD_BYTES = 4  # of a register
_VALUE = 0x20  # behind the descriptor itself
_DESCRIPTOR = np.dtype(
    {
        "names": ["next", "source", "target", "control", "status", "value"],
        "formats": ["<u8", "<u8", "<u8", "<u4", "<u4", "<u4"],
        "offsets": [0x00, 0x08, 0x10, 0x18, 0x1C, _VALUE],
        "itemsize": DESCRIPTOR_BYTES,
    }
)


def write_starts(
    memory: NDArray[np.uint8], at: int, writes: Sequence[tuple[int, int]], *, base: int
) -> Chain:
    """Write the descriptors of writes of registers, by address and value, from the address ``at`` on.

    Addresses are those of the board, for which the memory begins at ``base``.
    """
    places = at + DESCRIPTOR_BYTES * np.arange(len(writes))
    table = np.zeros(len(writes), _DESCRIPTOR)
    table["next"] = np.roll(places, -1)
    table["source"] = places + _VALUE
    table["target"] = [address for address, _ in writes]
    table["control"] = _WORD_BYTES
    table["value"] = [value for _, value in writes]
    memory[at - base : at - base + table.nbytes] = table.view(np.uint8)
    return Chain(first=int(places[0]), last=int(places[-1]))


class Starter:
    """The CDMA, behind reads and writes of its registers."""

    def __init__(
        self, read: Callable[[int], int], write: Callable[[int, int], None], deadline: Deadline
    ) -> None:
        """``read`` and ``write`` take a register's offset."""
        self._read, self._write = read, write
        self._deadline = deadline
        self._first: int | None = None  # where its chains begin

    def reset(self) -> None:
        """Reset it.

        Raises: DeviceError when the reset does not end.
        """
        self._first = None
        self._write(_CONTROL, _RESET)
        end_s = time.monotonic() + _RESET_S
        while self._read(_CONTROL) & _RESET:
            if time.monotonic() > end_s:
                raise DeviceError("the CDMA does not come out of its reset; program the board again")

    def start(self, chain: Chain) -> None:
        """Let it write what the descriptors of a chain say."""
        if self._first != chain.first:
            if self._first is not None:
                self.check()  # where a chain begins it takes while it is idle alone
            self._write(_CONTROL, 0)  # forgets where it was
            self._write(_CONTROL, _SCATTER_GATHER)
            self._write(_CURRENT, chain.first)
            self._first = chain.first
        self._write(_TAIL, chain.last)

    def check(self) -> None:
        """Wait until it has written all, which takes microseconds.

        Raises: DeviceError for an error, or when the time of the operation is over.
        """
        while True:
            state = self._read(_STATUS)
            for bit, meaning in ERRORS.items():
                if state & bit:
                    raise DeviceError(f"the CDMA that starts the engines reports {meaning}")
            if state & _IDLE:
                return
            if self._deadline.left_s() <= 0:
                raise DeviceError(
                    f"the CDMA has not started the engines within {self._deadline.whole_s:g} s; program the "
                    "board again"
                )
            time.sleep(_PAUSE_S)
