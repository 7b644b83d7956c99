# SPDX-License-Identifier: Apache-2.0
"""The DMAs of a board's engines, and the CDMA that starts several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from e2train.devices.deadline import Deadline
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq_buffer import Buffer, firsts_bytes
from e2train.devices.pynq_dma import NO_EFFECT, ChainDma, call_at_once
from e2train.devices.pynq_starter import Starter, write_starts
from e2train.overlay import OverlaySet
from e2train.overlay.hwh import STARTER, dma_name
from e2train.packing.descriptors import Chain

__all__ = ["EngineDmas", "start_calls"]


def start_calls(engines: int) -> int:
    """Remote calls that start a round on a board with so many engines: one starts several."""
    return 2 if engines == 1 else 1


class EngineDmas:
    """What runs chains, by the numbers of engines."""

    def __init__(
        self,
        modules: Any,
        overlay: OverlaySet,
        *,
        read: Callable[[Any, int], int],
        write: Callable[[Any, int, int], None],
        deadline: Deadline,
        remote: bool,
    ) -> None:
        """``modules`` is pynq's overlay; ``read`` and ``write`` take registers and an offset.

        Raises: DeviceError when one is not there.
        """
        self._remote = remote
        self._deadline = deadline
        self._dmas: list[ChainDma] = []
        self._bases: list[int] = []  # addresses of their registers
        engines = overlay.manifest.engines
        for engine in range(engines):
            name = dma_name(engine)
            mmio = _registers(modules, overlay, name)
            named = name if engines > 1 else "the DMA"
            self._dmas.append(ChainDma(partial(read, mmio), partial(write, mmio), deadline, name=named))
            self._bases.append(int(mmio.base_addr))
        self._starter: Starter | None = None
        if remote and engines > 1:  # on the board itself a write costs nothing
            mmio = _registers(modules, overlay, STARTER)
            self._starter = Starter(partial(read, mmio), partial(write, mmio), deadline)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._dmas)

    def reset(self) -> None:
        """Reset all of them, and their engines.

        Raises: DeviceError for the first that does not come out of its reset; the others are reset too.
        """
        errors = []
        for module in (self._starter, *self._dmas):
            try:
                if module is not None:
                    module.reset()
            except DeviceError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def ready(self, buffer: Buffer, chains: Mapping[int, tuple[Chain, Chain]]) -> Callable[[], None]:
        """Make channels ready for chains, MM2S and S2MM; gives what starts all at once.

        Where that takes descriptors, they are now in the buffer, which is to be sent before.
        """
        writes = [
            (engine, *write) for engine, ways in chains.items() for write in self._dmas[engine].aim(*ways)
        ]
        base = buffer.address
        if self._starter is not None:
            listed = [(self._bases[engine] + offset, value) for engine, offset, value in writes]
            # As many each time, so that no descriptor ever points elsewhere.
            listed += [(self._bases[0] + NO_EFFECT, 0)] * (2 * self.count - len(listed))
            chain = write_starts(buffer.memory, base + firsts_bytes(self.count), listed, base=base)
            return partial(self._starter.start, chain)
        calls = [partial(self._dmas[engine].write, offset, value) for engine, offset, value in writes]
        return partial(self._call, calls)

    def wait(self, engines: Iterable[int]) -> None:
        """Wait until engines have given all that their chains ask for.

        Raises: DeviceError as ChainDma.wait, or where nothing began.
        """
        if self._starter is not None:
            self._starter.check()  # channels that were not started are idle, as those that are done
        for engine in engines:
            self._dmas[engine].wait()

    def _call(self, calls: Sequence[Callable[[], None]]) -> None:
        if self._remote:
            call_at_once(calls, self._deadline)
            return
        for call in calls:
            call()


def _registers(modules: Any, overlay: OverlaySet, name: str) -> Any:
    module = getattr(modules, name, None)
    if module is None:
        raise DeviceError(f"the overlay {overlay.name} has no {name}")
    return module.mmio
