# SPDX-License-Identifier: Apache-2.0
"""The memory for resident tensors that an agent keeps for one program at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from e2train.devices.agent_wire import WireError
from e2train.devices.protocol import Counters, DeviceError
from e2train.devices.resident import Operation, ResidentDevice, run_operations
from e2train.devices.resident_wire import Batch, Put, Step, encode_outcomes

__all__ = ["AgentMemory"]


class AgentMemory:
    """Belongs to the program whose key came last; that program's batches must follow each other.

    A batch that comes twice, as its reply was lost, is answered twice and run once.
    """

    def __init__(self, open_resident: Callable[[], ResidentDevice] | None, *, most_bytes: int) -> None:
        """``most_bytes`` is what a device may reserve that knows no limit of its own."""
        self._open = open_resident
        self._most_bytes = most_bytes
        self._device: ResidentDevice | None = None
        self._key = ""
        self._number = -1  # of the last batch
        self._request = self._reply = b""

    def run(self, batch: Batch, request: bytes) -> bytes:
        """The reply to a batch.

        Raises: WireError for one that does not follow the last; DeviceError when the device fails, after
            which the tensors are lost.
        """
        if (batch.key, batch.number, request) == (self._key, self._number, self._request):
            return self._reply
        if batch.number and (batch.key, batch.number) != (self._key, self._number + 1):
            raise DeviceError(
                "this program's tensors are gone: the agent was started again, or another program uses it"
            )
        self._key, self._number = "", -1  # unless all goes well
        device = self._opened()
        room = self._room(device)
        if batch.reserve > room:
            raise WireError(f"{batch.reserve} bytes for tensors are asked for, the agent has {room}")
        device.reserve(batch.reserve)
        reply = encode_outcomes(_run(device, batch.steps), request=request, memory_bytes=room)
        self._key, self._number, self._request, self._reply = batch.key, batch.number, request, reply
        return reply

    def close(self) -> None:
        """Give the device's memory back."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def _opened(self) -> ResidentDevice:
        if self._device is None:
            if self._open is None:
                raise DeviceError("this agent keeps no tensors; use --set execution=offload")
            self._device = self._open()
        return self._device

    def _room(self, device: ResidentDevice) -> int:
        own = device.memory_bytes
        return self._most_bytes if own is None else own


def _run(device: ResidentDevice, steps: Sequence[Step]) -> list[tuple[Any, Counters]]:
    found: list[tuple[Any, Counters]] = []
    before = Counters()  # of writes
    for puts, group in groupby(steps, lambda step: isinstance(step, Put)):
        if puts:
            for step in group:
                assert isinstance(step, Put)
                device.write(step.tensor, step.values)
            before = device.take_counters()
            continue
        calls: list[Operation] = [step for step in group if not isinstance(step, Put)]
        outcomes = run_operations(device, calls)
        found.append((outcomes[0][0], before + outcomes[0][1]))
        found += outcomes[1:]
        before = Counters()
    return found
