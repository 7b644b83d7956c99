# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C as a wish to stop: within a call to a device at once, else after the present step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from e2train.runtime import stop_execution

__all__ = ["StopFlag", "stop_on_signals"]


class StopFlag:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self) -> bool:
        return self.requested


@contextmanager
def stop_on_signals(*, at_once: bool) -> Iterator[StopFlag]:
    """Turn the first SIGINT or SIGTERM into a flag; a second one acts as it did before.

    With ``at_once`` it also ends the device's call that is under way, with ExecutionStopped.

    In a thread other than the main one, where Python takes no signals, the flag stays down.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        flag.requested = True
        for each, handler in before.items():
            signal.signal(each, handler)
        if at_once:
            stop_execution()

    for number in before:
        signal.signal(number, ask)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
