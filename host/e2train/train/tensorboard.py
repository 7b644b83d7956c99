# SPDX-License-Identifier: Apache-2.0
"""Scalars of a run in TensorBoard's event files, which need no package to be written.

A file is a row of records: length, its checksum, a protocol buffer of the kind ``Event``, its checksum.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["EVENTS", "EventFile", "crc32c"]

EVENTS = "events.out.tfevents."
"""What the names of event files begin with."""

_VERSION = b"brain.Event:2"
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK_DELTA = 0xA282EAD8


class EventFile:
    """A new event file in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{EVENTS}{int(time.time()):010d}.{os.getpid()}"
        self._append(_bytes(3, _VERSION))

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append the scalars of a step, by their tags."""
        values = (_bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in scalars.items())
        self._append(_varint(2 << 3) + _varint(step) + _bytes(5, b"".join(values)))

    def _append(self, fields: bytes) -> None:
        event = _double(1, time.time()) + fields
        length = struct.pack("<Q", len(event))
        record = b"".join((length, _masked(length), event, _masked(event)))
        with self.path.open("ab") as file:
            file.write(record)


def crc32c(data: bytes) -> int:
    """The checksum CRC-32C.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _table() -> Iterable[int]:
    for index in range(256):
        for _ in range(8):
            index = (index >> 1) ^ (_POLYNOMIAL if index & 1 else 0)
        yield index


_TABLE = tuple(_table())


def _masked(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + _MASK_DELTA) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)
