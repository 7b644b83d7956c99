# SPDX-License-Identifier: Apache-2.0
"""The SoC around a small stand-in kernel: what a driver of its DMA sees, to the word and cycle."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from e2sim import DmaRegister, MemoryTiming, SimulationError, Soc, Toolchain, Until, build_soc
from e2sim.activity import read_toggles

HALTED, IDLE, INT_ERR, DEC_ERR, IOC, ERR = 1, 2, 1 << 4, 1 << 6, 1 << 12, 1 << 14
STUCK, ASSERT, LOSE_LAST = 0xDEAD, 0xBAD, 0xC0DE


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    name: str = "stand_in"
    sv_files: tuple[Path, ...] = (Path(__file__).with_name("stand_in.sv"),)


@pytest.fixture(scope="module")
def library() -> Path:
    return build_soc(StandIn())


@pytest.fixture
def soc(library: Path) -> Iterator[Soc]:
    with Soc(library, memory_bytes=8 << 20) as soc:
        yield soc


def words(count: int, *, first: int = 0) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.uint64)


def test_second_build_does_nothing(library: Path) -> None:
    before = library.stat().st_mtime_ns
    assert build_soc(StandIn()) == library
    assert library.stat().st_mtime_ns == before


@pytest.mark.slow
def test_any_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the cache, the RTL, Verilator, zig and Python: make splits paths at spaces, and $ is its own."""
    folder = tmp_path / "it's $a b"
    folder.mkdir()
    found = Toolchain.find()
    targets = {"verilator": found.verilator_root, "zig": found.zig_root, "python": Path(sys.executable)}
    for name, target in targets.items():
        (folder / name).symlink_to(target)
    tools = Toolchain(verilator_root=folder / "verilator", zig_root=folder / "zig")
    monkeypatch.setattr(Toolchain, "find", lambda: tools)
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    monkeypatch.setenv("E2TRAIN_CACHE", str(folder))
    source = Path(shutil.copy(StandIn().sv_files[0], folder))
    library = build_soc(StandIn(sv_files=(source,)))
    assert library.is_relative_to(folder)
    with Soc(library) as soc:
        reply, _ = soc.dma_transfer(words(3), reply_words=3)
    assert reply.tolist() == [1, 2, 3]


def test_a_library_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "libsoc.so"
    damaged.write_bytes(b"damaged")
    message = rf"^cannot load {re.escape(str(damaged))}: [^\n]+; remove its folder to build it again$"
    with pytest.raises(SimulationError, match=message):
        Soc(damaged)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 512, 513, 100_000])
def test_transfer_returns_the_kernels_words(soc: Soc, count: int) -> None:
    sent = words(count, first=0xFFFF_FFFF_0000_0000)
    for _ in range(2):
        reply, stats = soc.dma_transfer(sent, reply_words=count)
        np.testing.assert_array_equal(reply, sent + np.uint64(1))
        assert (stats.words_in, stats.words_out) == (count, count)
        assert stats.cycles == count + 1  # the kernel holds each word for one cycle


def test_short_reply_is_read_back_as_bytes_received(soc: Soc) -> None:
    reply, _ = soc.dma_transfer(words(3), reply_words=100)
    assert len(reply) == 3
    assert soc.read(DmaRegister.S2MM_LENGTH) == 24


def test_cycles_are_the_same_in_every_run(library: Path) -> None:
    def run(seed: int) -> tuple[int, int]:
        with Soc(library, memory_bytes=1 << 20, seed=seed) as soc:
            return soc.dma_transfer(words(1000), reply_words=1000)[1].cycles, soc.cycles

    assert run(1) == run(1) == run(2)


@pytest.mark.parametrize(
    ("timing", "cycles"),
    [
        pytest.param(MemoryTiming(), 1025, id="default"),
        pytest.param(MemoryTiming(bytes_per_cycle=8), 2047, id="half-bandwidth"),
        pytest.param(MemoryTiming(outstanding=1, read_latency=34), 1024 // 16 * 50 - 33, id="one-burst"),
    ],
)
def test_timing_model(library: Path, timing: MemoryTiming, cycles: int) -> None:
    with Soc(library, timing=timing) as soc:
        assert abs(soc.dma_transfer(words(1024), reply_words=1024)[1].cycles - cycles) <= 2


def test_registers_after_reset(soc: Soc) -> None:
    soc.write(DmaRegister.MM2S_SA, 0x1234)
    soc.write(DmaRegister.S2MM_DMACR, 4)
    assert soc.read(DmaRegister.MM2S_DMACR) & 4
    assert soc.read(DmaRegister.S2MM_DMACR) & 4
    soc.run(16)
    for base in (0x00, 0x30):
        assert soc.read(base) == 0x00010002
        assert soc.read(base + 4) == HALTED
        assert soc.read(base + 0x18) == soc.read(base + 0x28) == 0


def test_length_without_run_does_nothing(soc: Soc) -> None:
    soc.write(DmaRegister.MM2S_LENGTH, 64)
    soc.run(1000)
    assert soc.read(DmaRegister.MM2S_DMASR) == HALTED
    assert soc.stats.words_in == 0


def start(soc: Soc, base: int, *, address: int, length: int) -> None:
    soc.write(base, 1)
    soc.write(base + 0x18, address)
    soc.write(base + 0x28, length)


@pytest.mark.parametrize(
    ("base", "offset", "length", "bit"),
    [
        pytest.param(0x00, 0, 0, INT_ERR, id="mm2s-zero-length"),
        pytest.param(0x30, 0, 0, INT_ERR, id="s2mm-zero-length"),
        pytest.param(0x00, 4, 64, INT_ERR, id="mm2s-unaligned"),
        pytest.param(0x30, 4, 64, INT_ERR, id="s2mm-unaligned"),
        pytest.param(0x00, -8, 64, DEC_ERR, id="mm2s-below"),
        pytest.param(0x00, (8 << 20) - 8, 64, DEC_ERR, id="mm2s-past-the-end"),
        pytest.param(0x30, 8 << 20, 64, DEC_ERR, id="s2mm-past-the-end"),
        pytest.param(0x30, 0, 16, INT_ERR, id="s2mm-too-short"),
        pytest.param(0x30, 0, 28, INT_ERR, id="s2mm-part-of-a-word-too-short"),
    ],
)
def test_errors_halt_the_channel_until_reset(soc: Soc, base: int, offset: int, length: int, bit: int) -> None:
    if base:
        start(soc, 0x00, address=soc.memory_base, length=32)
    start(soc, base, address=soc.memory_base + offset, length=length)
    assert soc.run(10_000, until=Until.IDLE)
    assert soc.read(base + 4) == HALTED | bit | ERR
    assert soc.read(base) & 1 == 0
    soc.reset()
    reply, _ = soc.dma_transfer(words(100), reply_words=100)
    np.testing.assert_array_equal(reply, words(100, first=1))


def test_interrupt_bits_are_cleared_by_writing_one(soc: Soc) -> None:
    soc.dma_transfer(words(4), reply_words=4)
    assert soc.read(DmaRegister.MM2S_DMASR) == IDLE | IOC
    soc.write(DmaRegister.MM2S_DMASR, IOC)
    assert soc.read(DmaRegister.MM2S_DMASR) == IDLE
    soc.write(DmaRegister.MM2S_DMACR, 0)
    assert soc.read(DmaRegister.MM2S_DMASR) == IDLE | HALTED


def test_run_until_interrupt_needs_its_enable(soc: Soc) -> None:
    start(soc, 0x30, address=soc.memory_base + 4096, length=32)
    start(soc, 0x00, address=soc.memory_base, length=32)
    assert not soc.run(1000, until=Until.INTERRUPT)
    soc.write(DmaRegister.S2MM_DMACR, 1 | IOC)
    assert soc.run(0, until=Until.INTERRUPT)


def test_hang_ends_at_its_deadline_and_reset_brings_the_kernel_back(soc: Soc) -> None:
    sent = words(64)
    sent[10] = STUCK
    with pytest.raises(
        SimulationError, match="the kernel hangs: no word moved in 10000 cycles, after 11 in and 11 out"
    ):
        soc.dma_transfer(sent, reply_words=64, stall_cycles=10_000)
    soc.reset()
    reply, _ = soc.dma_transfer(words(64), reply_words=64)
    np.testing.assert_array_equal(reply, words(64, first=1))


def test_lost_tlast_is_a_hang_or_an_overflow(soc: Soc) -> None:
    sent = np.array([1, 2, LOSE_LAST], np.uint64)
    with pytest.raises(SimulationError, match="the kernel hangs"):
        soc.dma_transfer(sent, reply_words=3, stall_cycles=1000)


def test_reply_longer_than_its_buffer_is_an_error(soc: Soc) -> None:
    want = (
        "S2MM_DMASR reports DMAIntErr (0x4011): the reply, 5 words so far, "
        "does not fit the buffer it was given; reset it"
    )
    with pytest.raises(SimulationError, match=re.escape(want)):
        soc.dma_transfer(words(10), reply_words=4)


def test_failed_assertion_ends_one_simulation_only(library: Path) -> None:
    with Soc(library) as failing, Soc(library) as other:
        with pytest.raises(
            SimulationError, match=r"the kernel stopped: .*stand_in\.sv:\d+: assertion failed"
        ):
            failing.dma_transfer(np.array([ASSERT], np.uint64), reply_words=1)
        with pytest.raises(SimulationError, match="the kernel stopped"):
            failing.run(1)
        other.dma_transfer(words(8), reply_words=8)


def test_instances_run_in_threads(library: Path) -> None:
    def work(first: int) -> int:
        with Soc(library, memory_bytes=4 << 20) as soc:
            for turn in range(5):
                sent = words(5000, first=(1 << 32) + first + turn)
                reply, stats = soc.dma_transfer(sent, reply_words=5000)
                np.testing.assert_array_equal(reply, sent + np.uint64(1))
            return stats.cycles

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(0, 80, 10))) == {5001}


@pytest.mark.parametrize(
    ("sent", "reply_words", "error", "message"),
    [
        (np.zeros(4, np.int64), 4, ValueError, "words must be a contiguous uint64 vector, not int64(4,)"),
        (np.zeros(0, np.uint64), 4, ValueError, "the DMA moves 1..67108863 bytes, not 0 out and 32 back"),
        (
            np.zeros(1 << 20, np.uint64),
            1,
            SimulationError,
            "the transfer needs 8388616 bytes, the SoC has 8388608: open it with more memory_bytes",
        ),
    ],
)
def test_transfers_it_cannot_do(
    soc: Soc, sent: np.ndarray, reply_words: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        soc.dma_transfer(sent, reply_words=reply_words)


def test_closed_soc_says_so(library: Path) -> None:
    soc = Soc(library)
    soc.close()
    with pytest.raises(SimulationError, match=r"^the SoC is closed$"):
        soc.run(1)


@pytest.mark.slow
def test_activity_counts_every_clock_edge(tmp_path: Path, library: Path) -> None:
    file = tmp_path / "activity.saif"
    with Soc(build_soc(StandIn(), activity=True), memory_bytes=8 << 20) as soc:
        soc.dma_transfer(words(5), reply_words=5)
        before = soc.cycles
        soc.record(file)
        soc.dma_transfer(words(40), reply_words=40)
        soc.record(None)
        cycles = soc.cycles - before
    text = file.read_text()
    assert f"(DURATION {2 * cycles - 1})" in text
    assert re.search(rf"\(clk .*\(TC {2 * cycles - 1}\)\)", text)
    total = sum(map(int, re.findall(r"\(TC (\d+)\)", text)))
    toggles = read_toggles(file)
    assert sum(toggles.values()) == total
    assert set(toggles) == {"TOP", "TOP/stand_in"}
    with (
        Soc(library, memory_bytes=8 << 20) as plain,
        pytest.raises(SimulationError, match=r"^cannot record to .*; build the SoC with activity=True$"),
    ):
        plain.record(file)


@pytest.mark.parametrize("text", ["", "hello\nworld\n", "// maker\n(SAIFILE\n)))\n"])
def test_files_that_are_no_saif_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.saif").write_text(text)
    with pytest.raises(SimulationError, match=r"x\.saif is (no SAIF file of Verilator|damaged)"):
        read_toggles(tmp_path / "x.saif")
