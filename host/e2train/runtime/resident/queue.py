# SPDX-License-Identifier: Apache-2.0
"""Operations that wait until one of their results is wanted, for devices that take several together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from e2train.devices.chains.partial_sums import SumsLater
from e2train.devices.protocol import Counters
from e2train.devices.resident import BatchDevice, Operation, ResidentDevice, run_one_by_one
from e2train.runtime.execute import stoppable

__all__ = ["Later", "OperationQueue"]

_T = TypeVar("_T")


class Later(Generic[_T]):
    """A value that is computed when it is first asked for."""

    def __init__(self, compute: Callable[[], _T]) -> None:
        self._compute: Callable[[], _T] | None = compute
        self._value: _T

    def get(self) -> _T:
        """The value."""
        if self._compute is not None:
            self._value, self._compute = self._compute(), None
        return self._value


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiting:
    call: Operation
    done: Callable[[Any, Counters], None]
    outcome: Any = None


class OperationQueue:
    """Runs operations in order: at once, or on a device that takes several when a result is asked for."""

    def __init__(self, device: ResidentDevice) -> None:
        self._device = device
        self._batch = device.run_batch if isinstance(device, BatchDevice) else None
        self._waiting: list[_Waiting] = []

    def submit(self, call: Operation, done: Callable[[Any, Counters], None]) -> Later[Any]:
        """What an operation will have given; ``done`` is told of that and of what it took, in order."""
        entry = _Waiting(call=call, done=done)
        self._waiting.append(entry)
        if self._batch is None:
            self.settle()

        def outcome() -> Any:
            if entry in self._waiting or isinstance(entry.outcome, SumsLater):
                self.settle()  # which may bring the sums along
            if isinstance(entry.outcome, SumsLater):
                with stoppable():
                    entry.outcome = entry.outcome.get()
            return entry.outcome

        return Later(outcome)

    def settle(self) -> None:
        """Run all that waits."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        with stoppable():
            calls = [each.call for each in waiting]
            outcomes = self._batch(calls) if self._batch else run_one_by_one(self._device, calls)
        for each, (outcome, counters) in zip(waiting, outcomes, strict=True):
            each.outcome = outcome
            each.done(outcome, counters)

    def drop(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
