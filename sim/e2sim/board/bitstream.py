# SPDX-License-Identifier: Apache-2.0
"""What a simulated bitstream asks for."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields

import numpy as np

__all__ = ["BitstreamError", "Design", "read_bitstream"]

_MARK = b"E2TRAIN-SIMULATED"
_MOST_BYTES = 1 << 16
_MAX_CLOCK_MHZ = 1000.0
_MAX_ENGINES = 16


class BitstreamError(ValueError):
    """A bitstream that the simulated board cannot take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """DMAs and a GPIO at their addresses; an engine of one configuration, or a kernel, behind each DMA."""

    board: str
    config: str
    config_hash: int
    clock_mhz: float
    dma_base: int  # of the first; the others follow in steps of dma_range
    dma_range: int  # of each, and of the GPIO
    gpio_base: int
    hwh_sha256: str
    engines: int = 1  # DMAs with what is behind them
    kernel: str = "engine"  # what that is
    source_sha256: str = ""  # of another kernel's RTL
    control_base: int = 0  # of its registers, 0 where it has none
    starter_base: int = 0  # of the CDMA that starts several engines, 0 where there is none

    def __post_init__(self) -> None:
        if not 0 < self.clock_mhz <= _MAX_CLOCK_MHZ:  # not NaN either
            raise BitstreamError(
                f"the design of this bitstream has clock_mhz {self.clock_mhz}, "
                f"must be above 0 and at most {_MAX_CLOCK_MHZ:g}"
            )
        if not 1 <= self.engines <= _MAX_ENGINES:
            raise BitstreamError(
                f"the design of this bitstream has engines {self.engines}, must be in 1..{_MAX_ENGINES}"
            )
        for name in ("config_hash", "dma_base", "dma_range", "gpio_base", "control_base", "starter_base"):
            if not 0 <= getattr(self, name) < 1 << 32:
                raise BitstreamError(f"the design of this bitstream has a {name} outside 0..2**32 - 1")


def read_bitstream(firmware: bytes) -> Design:
    """The design in a firmware file, whose words pynq has swapped for the configuration port.

    Raises: BitstreamError.
    """
    if len(firmware) % 4:
        raise BitstreamError(
            f"a firmware file must be whole 32-bit words, this one has {len(firmware)} bytes"
        )
    data = np.frombuffer(firmware, ">u4").astype("<u4").tobytes()
    at = data.find(_MARK)
    if at < 0:
        raise BitstreamError("this bitstream is for a real board: it carries no design for the simulated one")
    at += len(_MARK)
    size = int.from_bytes(data[at : at + 4], "big")
    if size > min(_MOST_BYTES, len(data) - at - 4):
        raise BitstreamError(f"the design of this bitstream is cut off: {size} bytes are announced")
    try:
        payload = json.loads(data[at + 4 : at + 4 + size])
        values = {
            field.name: payload[field.name]
            if field.default is MISSING
            else payload.get(field.name, field.default)
            for field in fields(Design)
        }
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BitstreamError(f"the design of this bitstream cannot be read: {error}") from error
    kinds = {"str": str, "int": int, "float": (int, float)}
    for field in fields(Design):
        value = values[field.name]
        if isinstance(value, bool) or not isinstance(value, kinds[str(field.type)]):  # type: ignore[arg-type]
            raise BitstreamError(f"the design of this bitstream has no {field.name} of type {field.type}")
    return Design(**values)
