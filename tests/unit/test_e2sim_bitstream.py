# SPDX-License-Identifier: Apache-2.0
"""What the simulated board takes for a bitstream."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from e2sim.board.bitstream import BitstreamError, Design, read_bitstream

MARK = b"E2TRAIN-SIMULATED"
DESIGN = Design(
    board="zcu104",
    config="zcu104",
    config_hash=1,
    clock_mhz=187.5,
    dma_base=0xA000_0000,
    dma_range=0x1_0000,
    gpio_base=0xA001_0000,
    hwh_sha256="0" * 64,
)


CLOCK = "the design of this bitstream has clock_mhz {}, must be above 0 and at most 1000"
LENGTH = len(json.dumps(asdict(DESIGN)))


def swapped(data: bytes) -> bytes:
    """As pynq swaps the words of a .bit file's configuration."""
    return np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(">u4").tobytes()


def firmware(text: bytes | None = None, **fields: Any) -> bytes:
    text = json.dumps(asdict(DESIGN) | fields).encode() if text is None else text
    return swapped(MARK + struct.pack(">I", len(text)) + text)


def test_a_design_comes_back() -> None:
    assert read_bitstream(firmware()) == DESIGN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc", "a firmware file must be whole 32-bit words, this one has 3 bytes"),
        (b"", "this bitstream is for a real board: it carries no design for the simulated one"),
        (swapped(MARK), "the design of this bitstream is cut off: 0 bytes are announced"),
        (firmware()[:100], f"the design of this bitstream is cut off: {LENGTH} bytes are announced"),
        (firmware(b"{"), "the design of this bitstream cannot be read: Expecting property name"),
        (firmware(b"[" * 60_000), "the design of this bitstream cannot be read: maximum recursion depth"),
        (firmware(b"[]"), "the design of this bitstream cannot be read: list indices must be"),
        (firmware(dma_base=True), "the design of this bitstream has no dma_base of type int"),
        (firmware(dma_base=-1), "the design of this bitstream has a dma_base outside 0..2**32 - 1"),
        (firmware(clock_mhz=float("nan")), CLOCK.format("nan")),
        (firmware(clock_mhz=0), CLOCK.format("0")),
    ],
)  # fmt: skip
def test_what_is_no_design_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=f"^{re.escape(message)}"):
        read_bitstream(content)


def test_damage_raises_nothing_else(rng: np.random.Generator) -> None:
    refused = 0
    for _ in range(500):
        damaged = bytearray(firmware())
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            read_bitstream(bytes(damaged[: 4 * int(rng.integers(1, 2 * len(damaged) // 4))]))
        except BitstreamError:
            refused += 1
    assert 100 < refused < 500
