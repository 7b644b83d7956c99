# SPDX-License-Identifier: Apache-2.0
"""Chains interpreted on the host, with a device behind two streams for the engine."""

from __future__ import annotations

from e2train.devices.chains.device import ChainResident
from e2train.devices.protocol import StreamDevice
from e2train.numerics.frames.layout import Words
from e2train.packing.descriptors import Chain, interpret

__all__ = ["StreamResident"]


class StreamResident(ChainResident):
    """A stream device, such as the engine's C++, over memory of this machine; it is closed with this one."""

    def __init__(self, device: StreamDevice) -> None:
        self.name, self.parallel = device.name, device.parallel
        self._device = device
        super().__init__(device.config)

    def run_chain(self, slot: int, mm2s: Chain, s2mm: Chain, *, reply_words: int) -> int | None:
        """Interpret the descriptors."""
        cycles: list[int | None] = []

        def stream(words: Words) -> Words:
            done = self._device.transfer(words, reply_words=reply_words)
            cycles.append(done.cycles)
            return done.reply

        interpret(self._memory, mm2s, s2mm, stream)
        return cycles[0]

    def close(self) -> None:
        """Let go of memory and device."""
        super().close()
        self._device.close()
