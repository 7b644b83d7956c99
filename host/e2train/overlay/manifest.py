# SPDX-License-Identifier: Apache-2.0
"""The manifest of an overlay archive: what the overlay is, every field validated."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from e2train.config.records import RecordError, check_record, kinds_of, quoted

__all__ = ["ENGINE", "Manifest", "OverlayError", "read_manifest"]

ENGINE = "engine"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # boards and configurations; part of file names
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RESOURCES = ("lut", "ff", "bram36", "dsp")
_MAX_CLOCK_MHZ = 1000.0
_MAX_SLACK_NS = 1000.0
_MAX_COUNT = 1 << 32
_MAX_TOOL = 200
_MAX_ENGINES = 16
_MAX_OFFSET = 1 << 16


class OverlayError(ValueError):
    """An overlay that is not there, not whole, or not for this board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an overlay is; what was not measured is None."""

    board: str
    config: str
    config_hash: int
    source_sha256: str  # of the RTL
    tool: str
    clock_mhz: float
    slack_ns: float | None
    resources: dict[str, int] | None  # used lut, ff, bram36, dsp
    simulated: bool
    bit_sha256: str
    hwh_sha256: str
    kernel: str = ENGINE  # the name of what is behind a DMA
    engines: int = 1  # DMAs with such a kernel behind
    registers: dict[str, int] | None = None  # of the kernel itself: offsets by name

    def __post_init__(self) -> None:
        for name in ("board", "config", "kernel"):
            if not _NAME.fullmatch(getattr(self, name)):
                raise OverlayError(
                    f"{name} must be 1 to 64 letters, digits, _ and -, not {quoted(getattr(self, name))}"
                )
        for name in ("source_sha256", "bit_sha256", "hwh_sha256"):
            if not _SHA256.fullmatch(getattr(self, name)):
                raise OverlayError(
                    f"{name} must be 64 lower-case hexadecimal digits, not {quoted(getattr(self, name))}"
                )
        if not 0 <= self.config_hash < _MAX_COUNT:
            raise OverlayError(f"config_hash must be in 0..2**32 - 1, not {quoted(self.config_hash)}")
        if not 1 <= self.engines <= _MAX_ENGINES:
            raise OverlayError(f"engines must be in 1..{_MAX_ENGINES}, not {quoted(self.engines)}")
        if not self.tool.isprintable() or not 0 < len(self.tool) <= _MAX_TOOL:
            raise OverlayError(f"tool must be 1 to {_MAX_TOOL} printable characters, not {quoted(self.tool)}")
        # Comparisons that NaN fails too.
        if not 0 < self.clock_mhz <= _MAX_CLOCK_MHZ:
            raise OverlayError(
                f"clock_mhz must be above 0 and at most {_MAX_CLOCK_MHZ:g}, not {quoted(self.clock_mhz)}"
            )
        if self.slack_ns is not None and not 0 <= self.slack_ns <= _MAX_SLACK_NS:
            raise OverlayError(
                f"slack_ns must be in 0..{_MAX_SLACK_NS:g} or null, not {quoted(self.slack_ns)}"
            )
        for name, count in (self.resources or {}).items():
            if name not in _RESOURCES or type(count) is not int or not 0 <= count < _MAX_COUNT:
                raise OverlayError(
                    f"resources must count {', '.join(_RESOURCES)} from 0 on, not {quoted({name: count})}"
                )

        _check_registers(self.registers or {})


def _check_registers(registers: dict[str, int]) -> None:
    for name, offset in registers.items():
        if not _NAME.fullmatch(name) or type(offset) is not int or not 0 <= offset < _MAX_OFFSET:
            raise OverlayError(
                f"registers must have names and offsets below {_MAX_OFFSET}, not {quoted({name: offset})}"
            )


def read_manifest(text: bytes) -> Manifest:
    """A manifest from its JSON.

    Raises: OverlayError when it is not JSON, or a field is missing, unknown or makes no sense.
    """
    try:
        payload: Any = json.loads(text)
    except RecursionError:
        raise OverlayError("is nested too deeply; a manifest is one flat object") from None
    except ValueError as error:
        raise OverlayError(f"is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise OverlayError("must hold an object")
    try:
        # archives of before carry nothing else
        payload = {"kernel": ENGINE, "engines": 1, "registers": None} | payload
        check_record(payload, kinds_of(Manifest))
    except RecordError as error:
        raise OverlayError(str(error)) from None
    try:
        return Manifest(**payload)
    except OverlayError as error:
        raise OverlayError(f"is wrong: {error}") from None
