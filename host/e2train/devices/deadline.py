# SPDX-License-Identifier: Apache-2.0
"""How long the remote calls of an operation may take, all together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Deadline"]

_GRACE_S = 1.0  # of a call that begins late: a board that is slow is not a board that is gone


class Deadline:
    """The time that is left for an operation; each thread has operations of its own.

    A remote call outside of any operation is one by itself.
    """

    def __init__(self, whole_s: float) -> None:
        self.whole_s = whole_s
        self._ends = threading.local()

    @contextmanager
    def running(self, most_s: float | None = None) -> Iterator[None]:
        """Let an operation end in ``most_s``, where no longer one around it ends sooner."""
        outer: float | None = getattr(self._ends, "end_s", None)
        end_s = time.monotonic() + (self.whole_s if most_s is None else most_s)
        self._ends.end_s = end_s if outer is None else min(end_s, outer)
        try:
            yield
        finally:
            self._ends.end_s = outer

    def left_s(self) -> float:
        """What is left for the operation under way, at most 0 where it is over."""
        end_s: float | None = getattr(self._ends, "end_s", None)
        return self.whole_s if end_s is None else end_s - time.monotonic()

    def call_s(self) -> float:
        """How long a remote call that begins now may take."""
        return max(min(_GRACE_S, self.whole_s), self.left_s())
