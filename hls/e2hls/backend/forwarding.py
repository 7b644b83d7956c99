# SPDX-License-Identifier: Apache-2.0
"""Writes that a RAM does not hold yet, for reads that come before it does.

A loop that writes what it made of the same array's content reads the RAM some pipeline stages before it
writes. One stage holds one activation: where the write is at most ``depth`` stages behind the read, all but
the last ``depth`` writes are in the RAM when an activation reads it, and registers hold these.
"""

from __future__ import annotations

from e2hls.backend.bit_slices import Value, constant
from e2hls.backend.xls_text import ProcText

__all__ = ["RecentWrites"]


class RecentWrites:
    """The last ``depth`` writes to the RAM ``name``."""

    def __init__(self, text: ProcText, name: str, depth: int) -> None:
        self._text = text
        self._name = name
        self._depth = depth

    @property
    def constraint(self) -> str:
        """The scheduling constraint under which these writes are enough."""
        return f"{self._name}_rreq:send:{self._name}_wreq:send:1:{self._depth}"

    def content(self, address: Value, stored: Value) -> Value:
        """What the array holds at ``address``, where the RAM holds ``stored``."""
        for age in reversed(range(self._depth)):
            valid, at, data = self._entry(age, address.width, stored.width)
            hit = self._text.bit_and(valid, self._text.binary("eq", at, address, 1))
            stored = self._text.select(hit, data, stored)
        return stored

    def add(self, address: Value, data: Value, when: Value) -> None:
        """Note this activation's write; its oldest entry leaves."""
        new = (constant(1, 1), address, data)
        for age in range(self._depth):
            old = self._entry(age, address.width, data.width)
            for state, value in zip(old, new, strict=True):
                self._text.next_value(state.parts[0].node, value, when)
            new = old

    def _entry(self, age: int, address_bits: int, data_bits: int) -> tuple[Value, Value, Value]:
        stem, state = f"{self._name}_recent{age}", self._text.state
        return (
            state(f"{stem}_valid", 1),
            state(f"{stem}_addr", address_bits),
            state(f"{stem}_data", data_bits),
        )
