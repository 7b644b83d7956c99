# SPDX-License-Identifier: Apache-2.0
"""A kernel: one C++ source and the name of its top function."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DONE", "Kernel"]

DONE = "ap_done_out"  # the stream whose word tells that all others of a call are there

_MACRO = re.compile(r"[^\W\d]\w*(=.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The function ``name`` in ``source``, compiled with ``defines`` ("NAME" or "NAME=VALUE").

    Pragmas of the kinds in ``left_out`` do not count: what they are for is no part of the hardware. "II" is
    the option of PIPELINE: loops run at the interval that they can.
    """

    name: str
    source: Path
    include_dirs: tuple[Path, ...] = ()
    defines: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"a kernel's name must be a C++ identifier, not {self.name!r}")
        for each in self.defines:
            if not _MACRO.fullmatch(each):
                raise ValueError(f"a macro must be NAME or NAME=VALUE, not {each!r}")

    @property
    def macros(self) -> tuple[str, ...]:
        """The compiler's options for ``defines``."""
        return tuple(f"-D{each}" for each in self.defines)
