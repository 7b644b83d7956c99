# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C while nothing is to be lost yet."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["STOPPED", "ends_at_once"]

STOPPED = 130  # as a shell reports SIGINT


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process: imports of torch swallow the exception, or make another of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: os._exit(STOPPED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
