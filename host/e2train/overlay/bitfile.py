# SPDX-License-Identifier: Apache-2.0
"""Bitstream files: the header that Xilinx tools write, around what programs the simulated board.

A simulated bitstream configures nothing: its payload is a small JSON text that names the engine's
configuration. Only the simulated board takes it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from e2train.overlay.description import BoardDescription
from e2train.overlay.manifest import OverlayError

__all__ = ["BitHeader", "read_bit_header", "simulated_bitstream"]

_SYNC_WORD = b"\xaa\x99\x55\x66"
_SYNC_WITHIN = 1024  # bytes; padding and the detection of the bus width come before it
_SYNC = b"\xff" * 32 + _SYNC_WORD
_MARK = b"E2TRAIN-SIMULATED"
_PREAMBLE = struct.pack(">H", 9) + bytes.fromhex("0ff00ff00ff00ff000") + b"\0\1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BitHeader:
    """What a .bit file says of itself."""

    part: str  # 7-series parts without "xc" and speed grade
    simulated: bool

    def fits(self, part: str) -> bool:
        """Whether this is a bitstream for a part.

        >>> header = BitHeader(part="7z020clg400", simulated=False)
        >>> header.fits("xc7z020clg400-1"), header.fits("xc7z010clg400-1")
        (True, False)
        """
        own = self.part.removeprefix("xc")
        return f"{part.removeprefix('xc')}-".startswith(f"{own}-")


def read_bit_header(bit: bytes) -> BitHeader:
    """The header of a .bit file: fields a to d of text, then e, the length of what follows.

    Raises: OverlayError when it is no whole bitstream.
    """
    if not bit.startswith(_PREAMBLE):
        raise OverlayError("the .bit file has no header of a bitstream; rebuild it")
    at, texts = len(_PREAMBLE), {}
    for key in (b"a", b"b", b"c", b"d"):
        size = int.from_bytes(bit[at + 1 : at + 3], "big")
        raw = bit[at + 3 : at + 3 + size]
        if bit[at : at + 1] != key or len(raw) != size or not raw.endswith(b"\0") or not raw.isascii():
            raise OverlayError(f"the .bit file has no field {key.decode()} in its header; rebuild it")
        texts[key] = raw[:-1].decode("ascii")
        at += 3 + size
    size, data = int.from_bytes(bit[at + 1 : at + 5], "big"), bit[at + 5 :]
    if bit[at : at + 1] != b"e" or not size or len(data) != size:
        raise OverlayError(
            f"the .bit file announces {size} bytes of configuration, {len(data)} follow; rebuild it"
        )
    if _SYNC_WORD not in data[:_SYNC_WITHIN]:
        raise OverlayError("the .bit file has no synchronisation word; rebuild it")
    return BitHeader(part=texts[b"b"], simulated=data.startswith(_SYNC + _MARK))


def simulated_bitstream(board: BoardDescription, hwh_sha256: str, own: Mapping[str, str | int]) -> bytes:
    """The .bit file of a simulated overlay; it differs when the .hwh does, since pynq caches by its hash.

    ``own`` says which kernel is in the engine's place, if one is, and where its registers are.
    """
    payload: dict[str, Any] = {
        "board": board.name,
        "config": board.config.name,
        "config_hash": board.config.hash32,
        "clock_mhz": board.clock_mhz,
        "dma_base": board.dma_base,
        "dma_range": board.dma_range,
        "engines": board.engines,
        "gpio_base": board.gpio_base,
        "starter_base": board.starter_base or 0,
        "hwh_sha256": hwh_sha256,
        **own,
    }
    text = json.dumps(payload, sort_keys=True).encode()
    data = _SYNC + _MARK + struct.pack(">I", len(text)) + text
    data += b"\0" * (-len(data) % 4)  # the tools take it for 32-bit words
    return (
        _PREAMBLE
        + _field(b"a", f"e2train_{board.name};UserID=0XFFFFFFFF;Version=simulated")
        + _field(b"b", board.config.part)
        + _field(b"c", "2000/01/01")
        + _field(b"d", "00:00:00")
        + b"e"
        + struct.pack(">I", len(data))
        + data
    )


def _field(key: bytes, text: str) -> bytes:
    raw = text.encode() + b"\0"
    return key + struct.pack(">H", len(raw)) + raw
