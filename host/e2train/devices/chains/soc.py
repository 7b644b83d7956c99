# SPDX-License-Identifier: Apache-2.0
"""Chains run by the DMA of a simulated SoC, in scatter-gather mode, with the engine's RTL behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2hls import HlsError
from e2sim import MemoryTiming, SimulationError, Soc, build_soc

from e2train.config import EngineConfig
from e2train.devices.build import engine_rtl
from e2train.devices.chains.device import SCRATCH_BYTES, ChainResident, named
from e2train.devices.chains.operands import operands, results
from e2train.devices.chains.plan import ranges
from e2train.devices.chains.replies import FrameReplies
from e2train.devices.chains.rounds import plan_rounds
from e2train.devices.protocol import DeviceError, at_once
from e2train.devices.resident import Operation
from e2train.packing.descriptors import DESCRIPTOR_BYTES, Chain

__all__ = ["SocResident"]


class SocResident(ChainResident):
    """Simulated SoCs that share one memory, one chain per SoC at a time.

    Cycles of a chain run from the write of its tail pointers until both channels are idle.
    """

    name = "rtl"

    def __init__(
        self,
        config: EngineConfig,
        *,
        instances: int | None = None,
        timing: MemoryTiming | None = None,
        stall_cycles: int = 2_000_000,
    ) -> None:
        """``instances`` is one per engine unless given, at least two.

        Raises: DeviceError when the engine cannot be built.
        """
        super().__init__(config)
        self.parallel = max(2, config.engines) if instances is None else instances
        self._timing = timing
        self._stall_cycles = stall_cycles
        self._socs: list[Soc] = []
        try:
            self._library = build_soc(engine_rtl(config))
        except (HlsError, SimulationError) as error:
            raise DeviceError(f"cannot open device rtl for {config.name}: {error}") from error

    def reserve(self, nbytes: int) -> None:
        """Have at least so much memory; where it has to grow, what was in it is lost."""
        before = self._memory
        super().reserve(nbytes)
        if self._memory is not before:
            self._end()
            try:
                self._socs = [self._open() for _ in range(self.parallel)]
            except SimulationError as error:
                raise DeviceError(f"cannot open device rtl for {self.config.name}: {error}") from error

    def run_chain(self, slot: int, mm2s: Chain, s2mm: Chain, *, reply_words: int) -> int | None:
        """Let one of the SoCs run the descriptors; after an error it is reset."""
        soc, clean = self._socs[slot], False
        try:
            begin = soc.cycles
            soc.run_chain(
                mm2s=(mm2s.first, mm2s.last),
                s2mm=(s2mm.first, s2mm.last),
                stall_cycles=self._stall_cycles,
            )
            clean = True
            return soc.cycles - begin
        except SimulationError as error:
            raise DeviceError(str(error)) from error
        finally:  # Ctrl-C too leaves a chain under way
            if not clean:
                self._recover(slot)

    def run_interleaved(self, calls: Sequence[Operation]) -> list[Any]:
        """Outcomes of operations in order, which overlap: each engine does all of them for its samples."""
        for call in calls:
            self._check(*operands(call), *results(call))
        planned = plan_rounds(calls, self.config, room=SCRATCH_BYTES - DESCRIPTOR_BYTES, interleave=True)
        replies: list[list[FrameReplies]] = [[] for _ in calls]
        with named(" to ".join(dict.fromkeys(planned.labels[:: max(1, len(calls) - 1)])), self.name):
            for chains in planned.rounds:
                of_engines = list(chains.values())
                turns = [
                    self._run_group(of_engines[slice(*turn)])
                    for turn in ranges(len(of_engines), self.parallel)
                ]
                outcomes = [outcome for turn in turns for outcome in turn]
                self._counters += at_once([counters for _, counters in outcomes], self.config.engines)
                for reply in (reply for found, _ in outcomes for reply in found):
                    if reply.owner is not None:  # no frame of a barrier's
                        replies[reply.owner].append(reply)
        return [collect(found) for collect, found in zip(planned.collect, replies, strict=True)]

    def close(self) -> None:
        """End the simulations and let the memory go."""
        self._end()
        super().close()

    def _end(self) -> None:
        for soc in self._socs:
            soc.close()
        self._socs = []

    def _open(self) -> Soc:
        return Soc(
            self._library, memory=self._memory, memory_base=0, timing=self._timing, scatter_gather=True
        )

    def _recover(self, slot: int) -> None:
        """Reset a SoC, or open a new one where a failed assertion has ended it."""
        try:
            self._socs[slot].reset()
        except SimulationError:
            self._socs[slot].close()
            self._socs[slot] = self._open()
