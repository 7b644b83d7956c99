# SPDX-License-Identifier: Apache-2.0
"""Processes that serve simulated boards and agents."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

E2TRAIN = (sys.executable, "-m", "e2train")


@dataclass(frozen=True, kw_only=True)
class Served:
    """A process that serves something."""

    process: subprocess.Popen[str]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@contextmanager
def served(*command: str) -> Iterator[Served]:
    """Run a serving command until the end; its first line tells the address."""
    process = subprocess.Popen(
        [*E2TRAIN, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        match = re.search(r" on (\S+:\d+)$", line.strip())
        assert match, f"{command}: {line!r} {process.stderr.read() if not line else ''}"
        yield Served(process=process, address=match[1])
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()
        process.stderr.close()
