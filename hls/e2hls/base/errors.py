# SPDX-License-Identifier: Apache-2.0
"""The one exception that this package raises for user-correctable errors, and the places that it names."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HlsError", "Loc", "ScheduleError"]


@dataclass(frozen=True, slots=True)
class Loc:
    """A place in the user's C++ source."""

    file: str
    line: int
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class HlsError(Exception):
    """A kernel or a tool that cannot be used, as one line that says where and why."""

    def __init__(self, message: str, loc: Loc | None = None) -> None:
        self.message = " ".join(message.split())
        self.loc = loc
        super().__init__(self.message if loc is None else f"{loc}: {self.message}")


class ScheduleError(HlsError):
    """A process that does not run at the interval that it asks for, or at any."""
