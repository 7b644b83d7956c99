# SPDX-License-Identifier: Apache-2.0
"""Resident tensors of a board behind its agent: one request for all operations until a result is wanted."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.agent import AgentClient, beside
from e2train.devices.memory import check_access, check_values
from e2train.devices.one_by_one import OneByOne
from e2train.devices.protocol import Counters, DeviceError, DeviceLostError, StepLostError
from e2train.devices.resident import Affine, Convolution, DeviceTensor, Operation, WeightGradient
from e2train.devices.resident_wire import Batch, Put, decode_outcomes, encode_batch

__all__ = ["AgentResident"]


class AgentResident(OneByOne, AgentClient):
    """The memory that an agent keeps for this program, under a key of its own.

    Values wait for the next operations. After a failure the key is another one: a step starts again.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        address: str,
        token_file: Path | None = None,
        deadline_s: float = 60.0,
    ) -> None:
        """As ``AgentClient``."""
        super().__init__(config, address=address, token_file=token_file, deadline_s=deadline_s)
        self._reserved = 0
        self._counters = Counters()
        self._begin()

    def _begin(self) -> None:
        self._key, self._number = secrets.token_hex(8), 0
        self._values: list[Put] = []

    @property
    def memory_bytes(self) -> int | None:
        """What the agent has for tensors."""
        return self._send([])[1]

    def reserve(self, nbytes: int) -> None:
        """Have at least so much memory; where it has to grow, what was in it is lost."""
        self._reserved = max(self._reserved, nbytes)

    def write(self, tensor: DeviceTensor, values: NDArray[Any]) -> None:
        """Put values (N, C, H, W) of the tensor's kind into the memory.

        Raises: ShapeError when they are not of its shape and kind.
        """
        check_values(tensor, values)
        check_access(self._reserved, tensor)
        self._values.append(Put(tensor=tensor, values=np.array(values)))

    def read(self, tensor: DeviceTensor) -> NDArray[Any]:
        """An agent gives no tensors back.

        Raises: DeviceError.
        """
        raise DeviceError("an agent does not give tensors back")

    def run_batch(self, calls: Sequence[Operation]) -> list[tuple[Any, Counters]]:
        """Operations in order, by one request; its own counters are those of the first."""
        found, _ = self._send(calls)
        return found

    def compute_one(self, call: Operation) -> Any:
        ((outcome, counters),) = self.run_batch([call])
        self._counters += counters
        return outcome

    def _send(self, calls: Sequence[Operation]) -> tuple[list[tuple[Any, Counters]], int]:
        """Outcomes, and the bytes that the agent has for tensors.

        Raises: StepLostError where the step has to start again; DeviceLostError when the agent is gone.
        """
        batch = Batch(
            key=self._key, number=self._number, reserve=self._reserved, steps=(*self._values, *calls)
        )
        request = encode_batch(batch)
        label = " to ".join(dict.fromkeys(_label(call) for call in (*calls[:1], *calls[-1:]))) or "a step"
        try:
            (found, room), taken = self._exchange(
                label,
                "/resident",
                request,
                lambda reply: decode_outcomes(reply, calls, request=request),
                most=self._most_bytes,
            )
        except DeviceLostError:
            raise
        except DeviceError as error:
            self._begin()
            self._counters += Counters(retries=1)
            raise StepLostError(str(error)) from error
        except BaseException:  # Ctrl-C too leaves the agent with a number that is not known here
            self._begin()
            raise
        self._number += 1
        self._values.clear()
        there = sum((counters for _, counters in found), Counters())
        if found:
            found[0] = (found[0][0], found[0][1] + beside(there, taken))
        else:
            self._counters += taken
        return found, room


def _label(call: Operation) -> str:
    """Layer and mode, for messages."""
    if isinstance(call, Convolution | WeightGradient):
        return call.label
    return f"{call.name} ({'affine' if isinstance(call, Affine) else 'reduce'})"
