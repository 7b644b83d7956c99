# SPDX-License-Identifier: Apache-2.0
"""An AXI CDMA in scatter-gather mode (Xilinx PG034), which moves 32-bit words between memory and registers.

    offset  register     bits
    0x00    CDMACR       2 Reset (self-clearing), 3 SGMode; the rest has no effect here
    0x04    CDMASR       1 Idle, 3 SGIncld, 4 DMAIntErr, 6 DMADecErr, 8 SGIntErr, 10 SGDecErr
    0x08    CURDESC      the current descriptor; taken once after SGMode is set, cleared with it
    0x10    TAILDESC     the last descriptor; writing it starts at the current one, or behind the last tail

A descriptor stands at a multiple of 64 bytes: 0x00 NXTDESC, 0x08 SA, 0x10 DA, 0x18 CONTROL (0..25 bytes),
0x1C STATUS (28 DMAIntErr, 30 DMADecErr, 31 Cmplt). Addresses have 32 bits. A chain takes no time, but of a
CDMA that is ``stuck``, which is never done. Simple mode, cyclic descriptors and interrupts are not modelled.
After an error nothing starts until the next reset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from e2sim.board.memory import ContiguousMemory

__all__ = ["Cdma"]

_CONTROL, _STATUS, _CURRENT, _TAIL = 0x00, 0x04, 0x08, 0x10
_RESET, _SCATTER_GATHER = 1 << 2, 1 << 3
_IDLE, _SG_INCLUDED = 1 << 1, 1 << 3
_INTERNAL, _DECODE, _SG_INTERNAL, _SG_DECODE = 1 << 4, 1 << 6, 1 << 8, 1 << 10
_TO_STATUS = 24  # from an error bit of the register to that of a descriptor
_COMPLETE = 1 << 31
_LENGTH = (1 << 26) - 1
_DESCRIPTOR_BYTES, _WORD_BYTES = 64, 4
_MOST_DESCRIPTORS = 1 << 16  # before a chain counts as endless


class _Error(Exception):
    """What ends a chain: a bit of the status register."""

    def __init__(self, bit: int) -> None:
        super().__init__(bit)
        self.bit = bit


@dataclass(slots=True, kw_only=True)
class Cdma:
    """Its registers; ``holds`` and ``write_register`` are those of what it writes to besides the memory."""

    memory: ContiguousMemory
    holds: Callable[[int], bool]
    write_register: Callable[[int, int], None]
    control: int = 0
    errors: int = 0
    current: int = 0
    tail: int = 0
    following: int | None = None  # behind the tail of a chain: where the next one begins
    takes_current: bool = False  # until the first chain since SGMode was set
    stuck: bool = False

    def read(self, offset: int) -> int:
        """Read a register."""
        values = {
            _CONTROL: self.control,
            _STATUS: (0 if self.stuck else _IDLE) | _SG_INCLUDED | self.errors,
            _CURRENT: self.current,
            _TAIL: self.tail,
        }
        return values.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        if offset == _CONTROL:
            self.takes_current |= bool(value & _SCATTER_GATHER and not self.control)
            self.control = value & _SCATTER_GATHER
            if value & _RESET:
                self.control = self.errors = 0
            if not self.control:
                self.current = self.tail = 0
                self.following = None
                self.takes_current = False
        elif offset == _CURRENT and self.takes_current:
            self.current = value & -_DESCRIPTOR_BYTES
        elif offset == _TAIL and self.control and not self.errors and not self.stuck:
            self.tail = value & -_DESCRIPTOR_BYTES
            self._run()

    def _run(self) -> None:
        self.takes_current = False
        try:
            if self.following is not None:
                self.current = self.following
            for _ in range(_MOST_DESCRIPTORS):
                self.following = self._execute()
                if self.current == self.tail:
                    return
                self.current = self.following
            raise _Error(_SG_INTERNAL)
        except _Error as error:
            self.errors = error.bit

    def _execute(self) -> int:
        """Move what the current descriptor says; gives the next one's address, which is read with it."""
        at = self.current
        following = self._word(at) & -_DESCRIPTOR_BYTES
        if self._word(at + 0x1C) & _COMPLETE:
            raise _Error(_SG_INTERNAL)
        source, target, size = (self._word(at + field) for field in (0x08, 0x10, 0x18))
        size &= _LENGTH
        try:
            if not size or (size | source | target) % _WORD_BYTES:
                raise _Error(_INTERNAL)
            for offset in range(0, size, _WORD_BYTES):
                self._move(source + offset, target + offset)
        except _Error as error:
            self._store(at + 0x1C, error.bit << _TO_STATUS)
            raise
        self._store(at + 0x1C, _COMPLETE | size)
        return following

    def _move(self, source: int, target: int) -> None:
        if not self._has(source):
            raise _Error(_DECODE)
        value = self._word(source)
        if self._has(target):
            self._store(target, value)
        elif self.holds(target):
            self.write_register(target, value)
        else:
            raise _Error(_DECODE)

    def _has(self, address: int) -> bool:
        return 0 <= address - self.memory.base <= self.memory.ddr.size - _WORD_BYTES

    def _word(self, address: int) -> int:
        """A word of a descriptor, or of what is moved."""
        if not self._has(address):
            raise _Error(_SG_DECODE)
        at = address - self.memory.base
        return int(self.memory.ddr[at : at + _WORD_BYTES].view(np.uint32)[0])

    def _store(self, address: int, value: int) -> None:
        at = address - self.memory.base
        self.memory.ddr[at : at + _WORD_BYTES].view(np.uint32)[0] = value
