# SPDX-License-Identifier: Apache-2.0
"""The files of a simulated board, as far as anybody asks for them."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Files"]

FIRMWARE = "/lib/firmware/"
FPGA_MANAGER = "/sys/class/fpga_manager/fpga0/"
_MOST_BYTES = 256 << 20  # of all files that are written

Content = bytes | Callable[[], bytes]


class Files:
    """Paths with contents; some are made when they are read, one does something when it is written."""

    def __init__(
        self, *, board: str, architecture: str, compatible: str, program: Callable[[bytes], None]
    ) -> None:
        """``program`` takes the firmware file that the FPGA manager is to load."""
        self._program = program
        machine = {"armv7l": "arm", "aarch64": "aarch64"}[architecture]
        version = (
            f"Linux version 6.6.40-xilinx-simulated (e2train) ({machine}-linux-gcc) #1 SMP {architecture}\n"
        )
        self._contents: dict[str, Content] = {
            "/proc/version": version.encode(),
            "/proc/uptime": lambda: b"%.2f 0.00\n" % time.monotonic(),
            "/proc/device-tree/chosen/pynq_board": board.encode() + b"\0",
            "/proc/device-tree/compatible": compatible.encode() + b"\0",
            f"{FPGA_MANAGER}state": b"operating\n",
            f"{FPGA_MANAGER}flags": b"0\n",
            f"{FPGA_MANAGER}firmware": b"",
            f"{FIRMWARE}": b"",
        }

    def add(self, path: str, content: Content) -> None:
        """Put a file there."""
        self._contents[path] = content

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        folder = path.rstrip("/") + "/"
        return path in self._contents or any(name.startswith(folder) for name in self._contents)

    def read(self, path: str) -> bytes | None:
        """A file's content; None where there is none."""
        content = self._contents.get(path)
        return content() if callable(content) else content

    def write(self, path: str, content: bytes) -> None:
        """Write a file; a name written for the FPGA manager programs the logic.

        Raises: FileNotFoundError for a firmware that is not there; OSError when there is no room left.
        """
        if (
            sum(len(kept) for kept in self._contents.values() if isinstance(kept, bytes)) + len(content)
            > _MOST_BYTES
        ):
            raise OSError("no space left on the simulated board")
        self._contents[path] = content
        if path == f"{FPGA_MANAGER}firmware":
            name = content.decode().strip()
            firmware = self.read(FIRMWARE + name)
            if firmware is None:
                raise FileNotFoundError(f"no firmware {name}")
            self._program(firmware)
            self._contents[f"{FPGA_MANAGER}state"] = b"operating\n"
