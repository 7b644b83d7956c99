# SPDX-License-Identifier: Apache-2.0
"""A kernel: one C++ source and the name of its top function."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Kernel"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """The ``extern "C"`` function ``name`` in ``source``."""

    name: str
    source: Path
    include_dirs: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"a kernel's name must be a C++ identifier, not {self.name!r}")
