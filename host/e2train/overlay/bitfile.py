# SPDX-License-Identifier: Apache-2.0
"""Bitstream files: the header that Xilinx tools write, around what programs the simulated board.

A simulated bitstream configures nothing: its payload is a small JSON text that names the engine's
configuration. Only the simulated board takes it.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from e2train.overlay.description import BoardDescription

__all__ = ["simulated_bitstream"]

_SYNC = b"\xff" * 32 + b"\xaa\x99\x55\x66"
_MARK = b"E2TRAIN-SIMULATED"
_PREAMBLE = struct.pack(">H", 9) + bytes.fromhex("0ff00ff00ff00ff000") + b"\0\1"


def simulated_bitstream(board: BoardDescription, hwh_sha256: str) -> bytes:
    """The .bit file of a simulated overlay; it differs when the .hwh does, since pynq caches by its hash."""
    payload: dict[str, Any] = {
        "board": board.name,
        "config": board.config.name,
        "config_hash": board.config.hash32,
        "clock_mhz": board.clock_mhz,
        "dma_base": board.dma_base,
        "dma_range": board.dma_range,
        "gpio_base": board.gpio_base,
        "hwh_sha256": hwh_sha256,
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
