# SPDX-License-Identifier: Apache-2.0
"""The engine's C++, compiled for this machine."""

from __future__ import annotations

import os
from threading import Lock

import e2hls
import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.build import engine_kernel
from e2train.devices.protocol import Closing, DeviceError, Transfer

__all__ = ["CsimDevice"]


class CsimDevice(Closing):
    """Runs the kernel natively; it is compiled at the first transfer and kept in the cache."""

    name = "csim"
    tries = 1

    def __init__(self, config: EngineConfig, *, parallel: int | None = None) -> None:
        self.config = config
        self.parallel = parallel or min(4, os.cpu_count() or 1)
        self._idle: list[e2hls.NativeKernel] = []
        self._lock = Lock()

    def transfer(self, words: NDArray[np.uint64], *, reply_words: int) -> Transfer:
        """Send one transfer through the kernel and return its reply.

        Raises: DeviceError when the kernel cannot be built, or its reply does not end as one.
        """
        last = np.zeros(words.size, np.bool_)
        last[-1:] = True
        sent = e2hls.Words(data=words.reshape(-1, 1), last=last)
        kernel = self._kernel()
        reply = kernel.run({"s_axis": sent})["m_axis"]
        with self._lock:  # one that has failed may be in any state
            self._idle.append(kernel)
        if np.flatnonzero(reply.last).tolist() != [reply.last.size - 1]:
            raise DeviceError(f"csim: reply of {reply.last.size} words must end with its only TLAST")
        return Transfer(reply=np.ascontiguousarray(reply.data[:, 0]))

    def close(self) -> None:
        """Let go of the compiled kernel."""
        self._idle = []

    def _kernel(self) -> e2hls.NativeKernel:
        """One that no other transfer uses: what frames hold back is in static variables."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            try:
                return e2hls.build_native(engine_kernel(self.config))
            except e2hls.HlsError as error:
                raise DeviceError(f"cannot open device csim for {self.config.name}: {error}") from error
