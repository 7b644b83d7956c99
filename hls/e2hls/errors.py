# SPDX-License-Identifier: Apache-2.0
"""The one exception that this package raises for what a user can mend."""

from __future__ import annotations

from e2hls.ir import Loc

__all__ = ["HlsError"]


class HlsError(Exception):
    """A kernel or a tool that cannot be used, as one line that says where and why."""

    def __init__(self, message: str, loc: Loc | None = None) -> None:
        self.message = " ".join(message.split())
        self.loc = loc
        super().__init__(self.message if loc is None else f"{loc}: {self.message}")
