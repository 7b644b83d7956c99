# SPDX-License-Identifier: Apache-2.0
"""The engine's RTL in a simulated SoC, behind the DMA that drives it on a board."""

from __future__ import annotations

from pathlib import Path
from queue import LifoQueue

import numpy as np
from e2hls import HlsError
from e2sim import MemoryTiming, SimulationError, Soc, build_soc
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.build import engine_rtl
from e2train.devices.protocol import Closing, DeviceError, Transfer

__all__ = ["RtlDevice"]


class RtlDevice(Closing):
    """A pool of simulated SoCs with the engine in them, one transfer per SoC at a time.

    Cycles of a transfer run from the first word in to the last word out, both included.
    """

    name = "rtl"
    tries = 1

    def __init__(
        self,
        config: EngineConfig,
        *,
        instances: int | None = None,
        memory_bytes: int = 64 << 20,
        timing: MemoryTiming | None = None,
        stall_cycles: int = 2_000_000,
        activity: bool = False,
    ) -> None:
        """``instances`` is one per engine unless given, at least two.

        With ``activity`` the switching of the engine's signals can be recorded, by one instance.
        """
        instances = max(2, config.engines) if instances is None else instances
        if instances < 1 or (activity and instances > 1):
            raise ValueError(f"instances must be at least 1, and 1 to record activity, not {instances}")
        self.config = config
        self.parallel = instances
        self._memory_bytes = memory_bytes
        self._timing = timing
        self._stall_cycles = stall_cycles
        try:
            self._library = build_soc(engine_rtl(config), activity=activity)
            socs = [self._open() for _ in range(instances)]
        except (HlsError, SimulationError) as error:
            raise DeviceError(f"cannot open device rtl for {config.name}: {error}") from error
        self._idle: LifoQueue[Soc | None] = LifoQueue()
        for soc in socs:
            self._idle.put(soc)

    def transfer(self, words: NDArray[np.uint64], *, reply_words: int) -> Transfer:
        """Send one packet to the engine and wait for its reply.

        Raises: DeviceError when the engine hangs, stops, or replies with more than ``reply_words``;
            it is reset then, and the next transfer finds it idle.
        """
        soc = self._idle.get()
        clean = soc is None
        try:
            if soc is None:
                raise DeviceError("device rtl is closed")
            reply, stats = soc.dma_transfer(words, reply_words=reply_words, stall_cycles=self._stall_cycles)
            clean = True
        except SimulationError as error:
            raise DeviceError(f"device rtl: {error}") from error
        finally:  # Ctrl-C too leaves a transfer under way
            self._idle.put(soc if clean else self._recovered(soc))
        return Transfer(reply=reply, cycles=stats.cycles)

    def record_activity(self, path: Path | None) -> None:
        """Count the switching of the engine's signals into a SAIF file, from now on; None ends it."""
        soc = self._idle.get()
        try:
            if soc is not None:
                soc.record(path)
        finally:
            self._idle.put(soc)

    def close(self) -> None:
        """End the simulations, each after the transfer that it is in."""
        for _ in range(self.parallel):
            soc = self._idle.get()
            if soc is not None:
                soc.close()
        for _ in range(self.parallel):
            self._idle.put(None)

    def _open(self) -> Soc:
        return Soc(self._library, memory_bytes=self._memory_bytes, timing=self._timing)

    def _recovered(self, soc: Soc | None) -> Soc | None:
        """The same SoC after a reset, or a new one where a failed assertion has ended it."""
        if soc is None:
            return None
        try:
            soc.reset()
        except SimulationError:
            soc.close()
            return self._open()
        return soc
