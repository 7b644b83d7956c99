# SPDX-License-Identifier: Apache-2.0
"""What starts several engines with one write: the client's side on the model of the CDMA."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from e2sim.board.cdma import Cdma
from e2sim.board.memory import ContiguousMemory
from e2train.devices.deadline import Deadline
from e2train.devices.protocol import DeviceError
from e2train.devices.pynq_buffer import Buffer, chains_at
from e2train.devices.pynq_engines import EngineDmas
from e2train.devices.pynq_starter import Starter, write_starts

BASE, REGISTERS = 0x1000_0000, 0xA000_0000
TAIL = 0x10


class Cdmas:
    """A CDMA over memory and registers, and the starter that uses it."""

    def __init__(self, *, deadline_s: float = 5.0) -> None:
        self.memory = ContiguousMemory(base=BASE, size=1 << 16)
        self.written: list[tuple[int, int]] = []
        self.model = Cdma(
            memory=self.memory,
            holds=lambda address: 0 <= address - REGISTERS < 1 << 16,
            write_register=lambda address, value: self.written.append((address, value)),
        )
        self.calls: list[tuple[int, int]] = []
        self.deadline = Deadline(deadline_s)
        self.starter = Starter(self.model.read, self.write, self.deadline)
        self.starter.reset()

    def write(self, register: int, value: int) -> None:
        self.calls.append((register, value))
        self.model.write(register, value)

    def start(self, writes: list[tuple[int, int]], at: int = BASE) -> int:
        """Gives the number of calls that it takes."""
        before = len(self.calls)
        self.starter.start(write_starts(self.memory.ddr, at, writes, base=BASE))
        return len(self.calls) - before


def some(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    places = rng.integers(0, 1 << 14, count).tolist()
    return [(REGISTERS + 4 * place, int(rng.integers(1 << 32))) for place in places]


def test_one_call_starts_each_round_but_the_first(rng: np.random.Generator) -> None:
    cdma, wanted = Cdmas(), []
    for number, count in enumerate((8, 8, 2, 6, 8, 1, 1, 8)):
        writes = some(rng, count)
        wanted += writes
        assert cdma.start(writes) == (4 if number == 0 else 1)
        assert cdma.written == wanted
    cdma.starter.check()


def test_chains_may_begin_elsewhere(rng: np.random.Generator) -> None:
    """When the buffer has moved, and after a reset."""
    cdma, wanted = Cdmas(), []
    for at, calls in ((BASE, 4), (BASE + 4096, 4), (BASE + 4096, 1), (BASE, 4)):
        wanted += (writes := some(rng, 4))
        assert cdma.start(writes, at) == calls
        assert cdma.written == wanted
    cdma.starter.reset()
    wanted += (writes := some(rng, 4))
    assert cdma.start(writes) == 4
    assert cdma.written == wanted


def test_what_goes_wrong_is_said(rng: np.random.Generator) -> None:
    for name, damage in {
        "SGIntErr": lambda words: words.__setitem__(16 + 7, 1 << 31),  # complete already
        "SGDecErr": lambda words: words.__setitem__(16, 0xF000_0000),  # the next one
        "DMADecErr": lambda words: words.__setitem__(16 + 4, 0xB000_0000),  # where to
        "DMAIntErr": lambda words: words.__setitem__(16 + 6, 0),  # bytes
    }.items():
        cdma = Cdmas()
        first, *_ = writes = some(rng, 4)
        chain = write_starts(cdma.memory.ddr, BASE, writes, base=BASE)
        damage(cdma.memory.ddr[:256].view(np.uint32))
        cdma.starter.start(chain)
        with pytest.raises(DeviceError, match=f"^the CDMA that starts the engines reports {name} "):
            cdma.starter.check()
        assert cdma.written[0] == first
        assert len(cdma.written) == (2 if name == "SGDecErr" else 1)
        cdma.start(some(rng, 4))
        assert len(cdma.written) <= 2  # nothing more until the reset
        cdma.starter.reset()
        cdma.starter.check()
        cdma.start(writes)
        assert cdma.written[-4:] == writes


def test_one_that_is_never_done_is_named_within_the_deadline(rng: np.random.Generator) -> None:
    cdma = Cdmas(deadline_s=0.05)
    cdma.start(some(rng, 4))
    cdma.model.stuck = True
    cdma.start(some(rng, 4))
    for wait in (cdma.starter.check, lambda: cdma.start(some(rng, 4), BASE + 4096)):
        with (
            pytest.raises(DeviceError, match=r"^the CDMA has not started the engines within 0\.05 s; "),
            cdma.deadline.running(),
        ):
            wait()


def test_a_chain_begins_elsewhere_only_once_scatter_gather_is_set_again(rng: np.random.Generator) -> None:
    """As PG034 has it: the pointer is taken when the mode is set."""
    cdma = Cdmas()
    cdma.start(writes := some(rng, 2))
    others = some(rng, 2)
    moved = write_starts(cdma.memory.ddr, BASE + 4096, others, base=BASE)
    cdma.model.write(0x08, moved.first)
    again = write_starts(cdma.memory.ddr, BASE, writes, base=BASE)
    cdma.model.write(TAIL, again.last)
    assert cdma.written == 2 * writes


class Dma:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def aim(self, *chains: Any) -> list[tuple[int, int]]:
        return [(0x30 + TAIL, 1), (TAIL, 2)]

    def write(self, register: int, value: int) -> None:
        self.calls.append((register, value))

    def wait(self) -> None: ...


@pytest.fixture
def engines() -> Any:
    cdma, made = Cdmas(), object.__new__(EngineDmas)
    found: Any = made
    found._remote, found._deadline, found._starter = True, Deadline(5.0), cdma.starter
    found._dmas, found._bases = [Dma() for _ in range(3)], [REGISTERS + (engine << 12) for engine in range(3)]
    return SimpleNamespace(dmas=found, cdma=cdma)


def test_a_round_is_started_by_the_cdma_alone(engines: Any) -> None:
    buffer = Buffer(engines.cdma.memory.ddr[:4096], BASE)
    start = engines.dmas.ready(buffer, {0: (None, None), 2: (None, None)})
    assert not engines.cdma.written
    assert chains_at(3) == 768
    start()
    tails = [(0x30 + TAIL, 1), (TAIL, 2)]
    starts = [(REGISTERS + (engine << 12) + offset, value) for engine in (0, 2) for offset, value in tails]
    idle = [(REGISTERS + 0x04, 0)] * 2  # of bits that ones clear
    assert engines.cdma.written == starts + idle


def test_engines_that_were_not_started_are_the_cdmas_fault(engines: Any) -> None:
    """Their channels look as if they were done."""
    engines.dmas.wait([0, 1])
    engines.cdma.model.errors = 1 << 6
    with pytest.raises(DeviceError, match=r"^the CDMA that starts the engines reports DMADecErr "):
        engines.dmas.wait([0, 1])
