# SPDX-License-Identifier: Apache-2.0
"""The SoC's DMA in scatter-gather mode around the stand-in kernel: what a driver of chains sees."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from e2sim import DmaRegister, MemoryTiming, SimulationError, Soc, Until, build_soc
from e2train.packing.descriptors import Chain, Pieces, check_received, interpret, write_descriptors
from test_soc import STUCK, StandIn

HALTED, IDLE, SG = 1, 2, 1 << 3
INT_ERR, SLV_ERR, DEC_ERR = 1 << 4, 1 << 5, 1 << 6
SG_INT_ERR, SG_SLV_ERR, SG_DEC_ERR = 1 << 8, 1 << 9, 1 << 10
IOC, ERR = 1 << 12, 1 << 14
COMPLETE, SOF, EOF = 1 << 31, 1 << 27, 1 << 26

BASE = 0x1000_0000
SIZE = 1 << 20
SOURCES, PLACES, DATA, RESULTS = 0x0, 0x4000, 0x8000, 0x80000


@pytest.fixture(scope="module")
def library() -> Path:
    return build_soc(StandIn())


@pytest.fixture
def soc(library: Path) -> Iterator[Soc]:
    with Soc(library, memory_bytes=SIZE, scatter_gather=True) as soc:
        soc.memory[DATA:RESULTS].view(np.uint64)[:] = np.arange((RESULTS - DATA) // 8) + (1 << 40)
        yield soc


def pieces(*listed: tuple[int, int, bool]) -> Pieces:
    return Pieces.of((BASE + address, nbytes, end) for address, nbytes, end in listed)


def chain(soc: Soc, given: Pieces, at: int) -> Chain:
    return write_descriptors(soc.memory, given, BASE + at, base=BASE)


def pair(chain: Chain) -> tuple[int, int]:
    return chain.first, chain.last


def run(soc: Soc, mm2s: Chain, s2mm: Chain, *, stall_cycles: int = 20_000) -> int:
    return soc.run_chain(mm2s=pair(mm2s), s2mm=pair(s2mm), stall_cycles=stall_cycles).cycles


def statuses(soc: Soc, at: int, count: int) -> list[int]:
    return soc.memory[at : at + 64 * count].view(np.uint32).reshape(count, 16)[:, 7].tolist()


def start(soc: Soc, base: int, first: int, last: int) -> None:
    """Let one channel run, as a driver does."""
    soc.write(base + 0x08, BASE + first)
    soc.write(base, 1)
    soc.write(base + 0x10, BASE + last)


def copy(soc: Soc, count: int = 3, *, nbytes: int = 64) -> None:
    """A sound chain of ``count`` packets in ``count`` pieces each way, and what it must have done."""
    sources = pieces(*((DATA + 128 * index, nbytes, True) for index in range(count)))
    places = pieces(*((RESULTS + 128 * index, nbytes, True) for index in range(count)))
    s2mm = chain(soc, places, PLACES)
    run(soc, chain(soc, sources, SOURCES), s2mm)
    check_received(soc.memory, places, s2mm, base=BASE)
    for index in range(count):
        sent = soc.memory[DATA + 128 * index :][:nbytes].view(np.uint64)
        got = soc.memory[RESULTS + 128 * index :][:nbytes].view(np.uint64)
        np.testing.assert_array_equal(got, sent + np.uint64(1))


def test_registers(soc: Soc) -> None:
    for base in (0x00, 0x30):
        assert soc.read(base + 4) == HALTED | SG
        soc.write(base + 0x08, 0x1234_567F)
        soc.write(base + 0x0C, 0x1)
        soc.write(base + 0x18, 0x40)
        soc.write(base + 0x28, 64)
        assert soc.read(base + 0x08) == 0x1234_5640
        assert soc.read(base + 0x0C) == 0  # addresses have 32 bits
        assert soc.read(base + 0x18) == soc.read(base + 0x28) == 0
        soc.write(base, 1)
        assert soc.read(base + 4) == IDLE | SG
        soc.write(base + 0x08, 0)
        assert soc.read(base + 0x08) == 0x1234_5640  # only while halted
        soc.write(base, 0)
        assert soc.read(base + 4) == HALTED | SG


def test_a_dma_of_single_transfers_has_no_chains(library: Path) -> None:
    with Soc(library, memory_bytes=SIZE) as soc:
        soc.write(DmaRegister.MM2S_CURDESC, 0x40)
        soc.write(DmaRegister.MM2S_DMACR, 1)
        soc.write(DmaRegister.MM2S_TAILDESC, 0x40)
        soc.run(100)
        assert soc.read(DmaRegister.MM2S_DMASR) == soc.read(DmaRegister.MM2S_CURDESC) == 0


def test_chains_of_many_packets_equal_the_interpreter(soc: Soc, rng: np.random.Generator) -> None:
    """Random pieces over random places, to every byte of the memory: results, statuses, what lies around."""
    for packets in (1, 2, 40):
        sizes, ends = [], []
        for _ in range(packets):
            parts = rng.integers(1, 40, rng.integers(1, 5)) * 8
            sizes += parts.tolist()
            ends += [False] * (len(parts) - 1) + [True]
        at = DATA + 8 * rng.permutation(4000)[: len(sizes)]
        sources = pieces(*zip(at.tolist(), sizes, ends, strict=True))
        places = pieces(*_places(sizes, ends, rng))
        mm2s, s2mm = chain(soc, sources, SOURCES), chain(soc, places, PLACES)
        want = soc.memory.copy()
        interpret(want, mm2s, s2mm, lambda words: words + np.uint64(1), base=BASE)
        run(soc, mm2s, s2mm)
        np.testing.assert_array_equal(soc.memory, want)
        check_received(soc.memory, places, s2mm, base=BASE)
        assert soc.read(DmaRegister.MM2S_DMASR) == soc.read(DmaRegister.S2MM_DMASR) == IDLE | SG | IOC
        assert soc.read(DmaRegister.S2MM_CURDESC) == s2mm.last


def _places(sizes: list[int], ends: list[bool], rng: np.random.Generator) -> Iterator[tuple[int, int, bool]]:
    """Other cuts of the same packets, apart from each other."""
    at, left = RESULTS, 0
    for size, end in zip(sizes, ends, strict=True):
        left += size
        if end:
            while left:
                part = min(left, 8 * int(rng.integers(1, 60)))
                left -= part
                yield at, part, not left
                at += part + 8 * int(rng.integers(0, 4))


@pytest.mark.parametrize(
    ("sizes", "cycles"),
    [
        # S2MM's descriptor comes 7 cycles after the first word.
        pytest.param([65536], 8193 + 7, id="one piece: every cycle a word"),
        pytest.param([4096] * 16, 8193 + 7, id="long pieces: the next are there in time"),
        # 32 cycles of latency, eight words and a status each; S2MM's descriptor comes behind the first.
        pytest.param([8] * 50, 49 * 41 + 41, id="short pieces: as fast as descriptors come"),
    ],
)
def test_descriptors_take_the_time_of_the_memory(library: Path, sizes: list[int], cycles: int) -> None:
    starts = (DATA + np.cumsum([0, *sizes[:-1]])).tolist()
    ends = [False] * (len(sizes) - 1) + [True]
    sources, places = pieces(*zip(starts, sizes, ends, strict=True)), pieces((RESULTS, sum(sizes), True))
    timing = MemoryTiming(bytes_per_cycle=24)
    with Soc(library, memory_bytes=SIZE, timing=timing, scatter_gather=True) as soc:
        assert run(soc, chain(soc, sources, SOURCES), chain(soc, places, PLACES)) == cycles


def test_bandwidth_serves_descriptors_too(library: Path) -> None:
    """At 4 bytes a cycle, 64 words of data and 8 of each of 2 x 8 descriptors and their statuses."""
    timing = MemoryTiming(bytes_per_cycle=4, read_latency=0, write_latency=0)
    with Soc(library, memory_bytes=SIZE, timing=timing, scatter_gather=True) as soc:
        begin = soc.cycles
        copy(soc, 8)
        assert soc.cycles - begin >= (2 * 512 + 16 * 36) // 4


def test_a_channel_interrupts_at_the_end_of_a_packet(soc: Soc) -> None:
    chain(soc, pieces((DATA, 800, False), (DATA, 800, True), (DATA, 800, True)), SOURCES)
    chain(soc, pieces((RESULTS, 1600, True), (RESULTS + 1600, 800, True)), PLACES)
    start(soc, 0x30, PLACES, PLACES + 0x40)
    start(soc, 0x00, SOURCES, SOURCES + 0x80)
    soc.write(DmaRegister.MM2S_DMACR, 1 | IOC)
    assert soc.run(10_000, until=Until.INTERRUPT)
    assert statuses(soc, SOURCES, 3) == [COMPLETE | 800, COMPLETE | 800, 0]
    soc.write(DmaRegister.MM2S_DMASR, IOC)
    assert soc.read(DmaRegister.MM2S_DMASR) == SG
    assert soc.run(10_000, until=Until.INTERRUPT)
    assert soc.run(10_000, until=Until.IDLE)
    assert statuses(soc, PLACES, 2) == [COMPLETE | SOF | EOF | 1600, COMPLETE | SOF | EOF | 800]


def test_the_tail_moves_while_the_chain_runs_and_while_it_is_idle(soc: Soc) -> None:
    chain(soc, pieces(*((DATA + 512 * n, 512, True) for n in range(4))), SOURCES)
    chain(soc, pieces(*((RESULTS + 512 * n, 512, True) for n in range(4))), PLACES)
    start(soc, 0x30, PLACES, PLACES + 0x40)
    start(soc, 0x00, SOURCES, SOURCES)
    soc.run(100)
    assert soc.read(DmaRegister.MM2S_DMASR) & (IDLE | HALTED) == 0
    soc.write(DmaRegister.MM2S_TAILDESC, BASE + SOURCES + 0x40)
    assert soc.run(10_000, until=Until.IDLE)
    assert statuses(soc, PLACES, 4) == [COMPLETE | SOF | EOF | 512] * 2 + [0, 0]
    soc.write(DmaRegister.S2MM_TAILDESC, BASE + PLACES + 0xC0)
    soc.write(DmaRegister.MM2S_TAILDESC, BASE + SOURCES + 0xC0)
    assert soc.run(10_000, until=Until.IDLE)
    assert statuses(soc, PLACES, 4) == [COMPLETE | SOF | EOF | 512] * 4
    sent = soc.memory[DATA : DATA + 2048].view(np.uint64)
    np.testing.assert_array_equal(soc.memory[RESULTS : RESULTS + 2048].view(np.uint64), sent + np.uint64(1))


def test_the_tail_of_a_halted_channel_starts_nothing(soc: Soc) -> None:
    chain(soc, pieces((DATA, 64, True)), SOURCES)
    soc.write(DmaRegister.MM2S_TAILDESC, BASE + SOURCES)
    soc.write(DmaRegister.MM2S_DMACR, 1)
    soc.run(1000)
    assert soc.stats.words_in == 0
    assert statuses(soc, SOURCES, 1) == [0]


def test_a_stopped_chain_ends_what_it_has_begun(soc: Soc) -> None:
    chain(soc, pieces(*((DATA, 4096, True) for _ in range(8))), SOURCES)
    chain(soc, pieces((RESULTS, 4096, True), *((RESULTS, 4096, True) for _ in range(7))), PLACES)
    start(soc, 0x30, PLACES, PLACES + 0x1C0)
    start(soc, 0x00, SOURCES, SOURCES + 0x1C0)
    soc.run(300)
    soc.write(DmaRegister.MM2S_DMACR, 0)
    assert soc.read(DmaRegister.MM2S_DMASR) & HALTED == 0
    soc.run(2000)
    assert soc.read(DmaRegister.MM2S_DMASR) == HALTED | SG | IOC
    assert statuses(soc, SOURCES, 8) == [COMPLETE | 4096] + [0] * 7
    assert soc.stats.words_in == 512


BROKEN = {
    "complete already": ({(1, 7): COMPLETE}, SG_INT_ERR, [COMPLETE | 64, COMPLETE, 0]),
    "points nowhere": ({(0, 0): 0x2000_0000}, SG_DEC_ERR, [COMPLETE | 64, 0, 0]),
    "points between descriptors": ({(0, 0): BASE + 0x60}, SG_DEC_ERR, [COMPLETE | 64, 0, 0]),
    "no bytes": ({(1, 6): EOF}, INT_ERR, [COMPLETE | 64, 1 << 28, 0]),
    "no whole word": ({(1, 2): BASE + DATA + 4}, INT_ERR, [COMPLETE | 64, 1 << 28, 0]),
    "outside the memory": ({(1, 2): BASE + SIZE - 8}, DEC_ERR, [COMPLETE | 64, 1 << 30, 0]),
}  # descriptor and word, error, statuses afterwards


@pytest.mark.parametrize("way", ["mm2s", "s2mm"])
@pytest.mark.parametrize(("changes", "error", "left"), BROKEN.values(), ids=BROKEN.keys())
def test_errors_halt_a_chain_until_reset(
    soc: Soc, way: str, changes: dict[tuple[int, int], int], error: int, left: list[int]
) -> None:
    sources = pieces(*((DATA + 64 * n, 64, True) for n in range(3)))
    places = pieces(*((RESULTS + 64 * n, 64, True) for n in range(3)))
    mm2s, s2mm = chain(soc, sources, SOURCES), chain(soc, places, PLACES)
    at, base = (SOURCES, 0x00) if way == "mm2s" else (PLACES, 0x30)
    table = soc.memory[at : at + 192].view(np.uint32).reshape(3, 16)
    for (row, word), value in changes.items():
        table[row, word] = (
            value - BASE + BASE if way == "mm2s" or word else value + at * (value < 0x2000_0000)
        )
    with pytest.raises(SimulationError, match=rf"^{way.upper()}_DMASR reports .* at the descriptor 0x"):
        run(soc, mm2s, s2mm)
    assert soc.read(base + 4) & ~IOC == HALTED | SG | error | ERR
    assert soc.read(base) & 1 == 0
    flags = [0 if way == "mm2s" or status & ~(COMPLETE | 64) else SOF | EOF for status in left]
    want = [status | (flag if status & 64 else 0) for status, flag in zip(left, flags, strict=True)]
    assert statuses(soc, at, 3) == want
    soc.reset()
    copy(soc)


def test_the_blame_names_the_descriptor(soc: Soc) -> None:
    mm2s = chain(soc, pieces((DATA, 64, True), (DATA, 64, True)), SOURCES)
    s2mm = chain(soc, pieces((RESULTS, 64, True), (RESULTS, 64, True)), PLACES)
    soc.memory[0x5C:0x60].view(np.uint32)[0] = COMPLETE
    want = "MM2S_DMASR reports SGIntErr (0x4109): at the descriptor 0x10000040, after 8 words in and 8 out"
    with pytest.raises(SimulationError, match=f"^{re.escape(want)}; reset it$"):
        run(soc, mm2s, s2mm)


@pytest.mark.parametrize(
    ("bit", "left"), [(SLV_ERR, [1 << 29, 0, 0]), (SG_SLV_ERR, [0, 0, 0])], ids=["DMASlvErr", "SGSlvErr"]
)
@pytest.mark.parametrize("way", ["mm2s", "s2mm"])
def test_errors_of_a_slave(soc: Soc, way: str, bit: int, left: list[int]) -> None:
    soc.fail_next(way, bit)
    with pytest.raises(SimulationError, match="SlvErr"):
        copy(soc)
    base, at = (0x00, SOURCES) if way == "mm2s" else (0x30, PLACES)
    assert soc.read(base + 4) == HALTED | SG | bit | ERR
    assert statuses(soc, at, 3) == left
    soc.reset()
    copy(soc)


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([(RESULTS, 64, False), (RESULTS, 64, True)], id="a piece is left"),
        pytest.param([(RESULTS, 128, True)] * 2, id="a piece is left, and one not full"),
    ],
)
def test_a_chain_that_ends_early_hangs_until_reset(soc: Soc, places: list[tuple[int, int, bool]]) -> None:
    mm2s, s2mm = chain(soc, pieces((DATA, 64, True)), SOURCES), chain(soc, pieces(*places), PLACES)
    message = "the kernel hangs: no word moved in 2000 cycles, after 8 in and 8 out; reset it"
    with pytest.raises(SimulationError, match=message):
        run(soc, mm2s, s2mm, stall_cycles=2000)
    soc.reset()
    copy(soc)


def test_a_chain_that_is_cut_off_leaves_its_packet_open(soc: Soc) -> None:
    """The tail stands before the end of the packet: what came is there, its end is not."""
    chain(soc, pieces((DATA, 64, False), (DATA + 64, 64, True)), SOURCES)
    places = pieces((RESULTS, 64, False), (RESULTS + 64, 64, True))
    s2mm = chain(soc, places, PLACES)
    with pytest.raises(
        SimulationError, match="the kernel hangs: no word moved in 2000 cycles, after 8 in and 8"
    ):
        soc.run_chain(mm2s=(BASE + SOURCES, BASE + SOURCES), s2mm=pair(s2mm), stall_cycles=2000)
    assert statuses(soc, SOURCES, 2) == [COMPLETE | 64, 0]
    assert statuses(soc, PLACES, 2) == [COMPLETE | SOF | 64, 0]
    soc.write(DmaRegister.MM2S_TAILDESC, BASE + SOURCES + 0x40)
    assert soc.run(10_000, until=Until.IDLE)
    check_received(soc.memory, places, s2mm, base=BASE)


def test_words_without_a_place_wait(soc: Soc) -> None:
    """A reply longer than its pieces: the DMA is idle, the kernel is not."""
    places = pieces((RESULTS, 64, True))
    s2mm = chain(soc, places, PLACES)
    run(soc, chain(soc, pieces((DATA, 72, True)), SOURCES), s2mm)
    assert statuses(soc, PLACES, 1) == [COMPLETE | SOF | 64]
    soc.reset()
    copy(soc)


def test_reset_in_mid_chain(soc: Soc) -> None:
    chain(soc, pieces(*((DATA, 4096, True) for _ in range(8))), SOURCES)
    chain(soc, pieces(*((RESULTS, 4096, True) for _ in range(8))), PLACES)
    for cycles in (10, 45, 800, 1500, 2345):
        for at in (SOURCES, PLACES):
            soc.memory[at : at + 512].view(np.uint32).reshape(8, 16)[:, 7] = 0
        start(soc, 0x30, PLACES, PLACES + 0x1C0)
        start(soc, 0x00, SOURCES, SOURCES + 0x1C0)
        soc.run(cycles)
        soc.write(DmaRegister.S2MM_DMACR, 4)
        assert soc.read(DmaRegister.MM2S_DMACR) & 4
        soc.run(16)
        for base in (0x00, 0x30):
            assert soc.read(base) == 0x00010002
            assert soc.read(base + 4) == HALTED | SG
            assert soc.read(base + 0x08) == soc.read(base + 0x10) == 0
        done = [status for status in statuses(soc, SOURCES, 8) if status]
        assert len(done) < 8
        assert set(done) <= {COMPLETE | 4096}
        before = soc.memory.copy()
        soc.run(2000)
        np.testing.assert_array_equal(soc.memory, before)
    copy(soc)


def test_a_kernel_that_stops_is_a_hang(soc: Soc) -> None:
    soc.memory[DATA + 64 : DATA + 72].view(np.uint64)[0] = STUCK
    mm2s, s2mm = (
        chain(soc, pieces((DATA, 128, True)), SOURCES),
        chain(soc, pieces((RESULTS, 128, True)), PLACES),
    )
    message = "the kernel hangs: no word moved in 2000 cycles, after 9 in and 9"
    with pytest.raises(SimulationError, match=message):
        run(soc, mm2s, s2mm, stall_cycles=2000)
    soc.reset()
    soc.memory[DATA + 64 : DATA + 72].view(np.uint64)[0] = 0
    copy(soc)
